"""Two versions of numpy in one program: each domain has an environment of its own, made once and then kept."""

from cloister import Domain, Setup, events


def spread(numbers: list[float]) -> tuple[str, float]:
    """Runs in the domains, with the numpy that is there; this program needs none."""
    import numpy

    return numpy.__version__, float(numpy.std(numbers))


def show(event: events.Building) -> None:
    """The first time, uv builds the environments; show what it says."""
    print(f"  {event.domain}: {event.line}")


if __name__ == "__main__":
    with (
        Domain("old", setup=Setup(requirements=["numpy<2"]), on={events.Building: show}) as old,
        Domain("new", setup=Setup(requirements=["numpy>=2"]), on={events.Building: show}) as new,
    ):
        for domain in (old, new):
            version, deviation = domain.call(spread, [1.0, 2.0, 4.0])
            print(f"{domain.name}: numpy {version.split('.')[0]}.x says {deviation:.3f}")
