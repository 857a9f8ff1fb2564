from tests.bench.figures import Ratio, describe_hops, describe_memory, describe_ratios, describe_rounds

ROUNDS = {"ours": [3.0, 1.0, 2.0], "floor": [1.0, 1.0, 9.0], "bare": [1.5, 1.5, 1.5]}
NAMES = {"ours": "Ours", "floor": "Floor", "bare": "Bare"}


def test_medians_beside_least_and_most():
    assert describe_rounds(ROUNDS, NAMES) == (
        "|  | median | least | most |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| Ours | 2.00 s | 1.00 s | 3.00 s |\n"
        "| Floor | 1.00 s | 1.00 s | 9.00 s |\n"
        "| Bare | 1.50 s | 1.50 s | 1.50 s |\n"
    )


def test_ratios_of_medians_to_one_or_to_a_sum():
    told = describe_ratios(ROUNDS, [Ratio("ours", ("bare",), 1.0), Ratio("ours", ("floor", "bare"), None)], NAMES)
    assert told.splitlines()[2:] == ["| Ours / Bare | 1.33 | ≤ 1 |", "| Ours / Floor + Bare | 0.80 |  |"]


def test_hops_in_order_with_shares():
    rounds = [{"b": 1.0, "a": 0.5, "end": 2.0}, {"b": 1.0, "a": 0.5, "end": 2.0}, {"b": 1.0, "end": 4.0}]
    assert describe_hops(rounds).splitlines()[2:] == [
        "| a | 0.50 s | 0.50 s | 25% |",
        "| b | 1.00 s | 0.50 s | 25% |",
        "| end | 2.00 s | 1.00 s | 50% |",
    ]


def test_memory_of_several_is_added_up():
    assert describe_memory({"worker": [10.2, 20.4], "none": []}).splitlines()[2:] == [
        "| worker | 31 | 2 |",
        "| none | 0 | 0 |",
    ]
