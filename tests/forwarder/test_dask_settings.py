import dask
import pytest

from af_hub.forwarder.dask_settings import CLIENT, SCHEDULER, as_environment


@pytest.mark.parametrize("settings", [CLIENT, SCHEDULER], ids=["client", "scheduler"])
def test_dask_reads_our_variables_as_we_mean_them(settings):
    read = dask.config.collect_env(as_environment(settings))
    for name, value in settings.items():
        assert dask.config.get(name, config=read) == value
