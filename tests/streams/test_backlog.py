from streams.backlog import MOST_LOOKS, Backlog


def test_nothing_that_is_read_has_an_age() -> None:
    backlog = Backlog()
    assert backlog.age(10, 10, now=5.0) == 0
    assert backlog.age(12, 12, now=6.0) == 0


def test_the_age_is_that_of_the_oldest_that_was_not_read() -> None:
    backlog = Backlog()
    assert backlog.age(10, 5, now=100.0) == 0
    assert backlog.age(20, 5, now=103.0) == 3
    assert backlog.age(20, 9, now=104.0) == 4
    assert backlog.age(30, 10, now=105.0) == 2  # the one at 10 came at 103
    assert backlog.age(30, 29, now=106.0) == 1
    assert backlog.age(30, 30, now=107.0) == 0


def test_a_reader_that_stands_still_for_long_costs_bounded_memory_and_its_oldest_keeps_its_age() -> None:
    backlog = Backlog()
    for look in range(3 * MOST_LOOKS):
        age = backlog.age(look + 1, 0, now=float(look))
    assert age == 3 * MOST_LOOKS - 1
    assert len(backlog._ends) == MOST_LOOKS
