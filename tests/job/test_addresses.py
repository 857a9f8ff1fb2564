import pytest

from af_hub.job.addresses import read_site_addresses, site_address

CCB = "CCBID=10.9.9.9:9618%3faddrs%3d10.9.9.9-9618#12"


@pytest.mark.parametrize(
    "ad, addresses",
    [
        pytest.param('MyAddress = "<127.0.1.1:9618>"\n', ["127.0.1.1"], id="plain"),
        pytest.param(
            f'Name = "slot1"\nMyAddress = "<192.0.2.7:9618?addrs=192.0.2.7-9618&{CCB}&alias=wn.site&noUDP&sock=startd_1">\n',
            [],
            id="no closing quote",
        ),
        pytest.param(
            f'MyAddress = "<192.0.2.7:9618?addrs=192.0.2.7-9618&{CCB}&alias=wn.site&noUDP&sock=startd_1>"\n',
            ["192.0.2.7"],
            id="with parameters",
        ),
        pytest.param(
            'MyAddress = "<192.0.2.7:9618?PrivAddr=%3c10.0.0.7:9618%3fsock%3dx%3e&PrivNet=site.example>"',
            ["10.0.0.7", "192.0.2.7"],
            id="private address first",
        ),
        pytest.param(
            'MyAddress = "<192.168.50.10:40145?CCBID=10.77.0.1:43427%3faddrs%3d10.77.0.1-43427%26alias%3dcm%26noUDP%26sock%3dcollector#1'
            '&PrivNet=T2_A.af-hub.test&addrs=192.168.50.10-40145&alias=wn.site&noUDP&sock=startd_1>"\n',
            ["192.168.50.10"],
            id="behind a router, as HTCondor 23.9 writes it",
        ),
        pytest.param('MyAddress = "<[2001:db8::7]:9618?noUDP>"', ["2001:db8::7"], id="IPv6"),
        pytest.param('StarterMyAddress = "<127.0.1.1:1>"', [], id="another attribute"),
        pytest.param("", [], id="no ad"),
        pytest.param('MyAddress = "what"', [], id="no sinful string"),
    ],
)
def test_addresses_of_a_machine_ad(ad, addresses):
    assert read_site_addresses(ad) == addresses


def test_the_first_address_that_can_be_bound_is_taken(tmp_path, monkeypatch):
    ad = tmp_path / ".machine.ad"
    ad.write_text('MyAddress = "<192.0.2.7:9618?PrivAddr=%3c127.0.1.1:1%3e>"\n')
    monkeypatch.setenv("_CONDOR_MACHINE_AD", str(ad))
    assert site_address("", "127.0.0.1") == "127.0.1.1"
    assert site_address("127.0.2.1", "127.0.0.1") == "127.0.2.1"
    ad.write_text('MyAddress = "<192.0.2.7:9618>"\n')
    assert site_address("", "127.0.0.1") == "127.0.0.1"


def test_without_an_ad_it_is_where_packets_leave(monkeypatch):
    monkeypatch.delenv("_CONDOR_MACHINE_AD", raising=False)
    assert site_address("", "127.0.0.1") == "127.0.0.1"
    assert site_address("", "no such host") == "127.0.0.1"
