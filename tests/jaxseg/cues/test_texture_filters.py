import numpy as np
import pytest

from jaxseg.cues import texture_filters

BANKS = {
    "gabor": (texture_filters.gabor, 48),
    "laplacians": (lambda: texture_filters.laplacians((0.7, 2.0, 6.0)), 3),
    "leung_malik": (texture_filters.leung_malik, 48),
    "schmid": (texture_filters.schmid, 13),
    "maximum_response": (texture_filters.maximum_response, 38),
}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BANKS)
def test_zero_mean_and_unit_norm(name):
    build, count = BANKS[name]
    kernels = build()
    assert kernels.shape[0] == count
    assert kernels.shape[1] == kernels.shape[2]
    assert kernels.shape[1] % 2 == 1
    close(kernels.sum((1, 2)), 0.0)
    close(np.abs(kernels).sum((1, 2)), 1.0)
    assert len(np.unique(kernels.round(9), axis=0)) == count


def test_gabor_pairs_are_in_quadrature():
    even, odd = np.split(texture_filters.gabor(), 2)
    close(even, even[:, ::-1, ::-1])
    close(odd, -odd[:, ::-1, ::-1])
    spectra = [np.abs(np.fft.fft2(half, (128, 128))) for half in (even, odd)]
    # Equal bands but for the lowest frequencies, where the even one had its mean removed.
    for one, other in zip(*spectra, strict=True):
        np.testing.assert_allclose(one, other, atol=0.2 * one.max())


def test_gabor_is_tuned_to_its_wavelength_direction_and_bandwidth():
    even, _ = np.split(texture_filters.gabor((8.0,), 4), 2)
    for index, kernel in enumerate(even):
        spectrum = np.abs(np.fft.fft2(kernel, (512, 512)))
        row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
        frequency = np.array([np.fft.fftfreq(512)[column], np.fft.fftfreq(512)[row]])
        assert np.hypot(*frequency) == pytest.approx(1 / 8, rel=0.02)
        assert np.arctan2(*frequency[::-1]) % np.pi == pytest.approx(np.pi * index / 4, abs=0.02)
    along = np.abs(np.fft.fft2(even[0], (512, 512)))[0, :256]
    band = np.flatnonzero(along >= along.max() / 2)
    assert np.log2(band[-1] / band[0]) == pytest.approx(1.0, abs=0.1)


def test_schmid_does_not_know_orientation():
    kernels = texture_filters.schmid()
    close(kernels, np.rot90(kernels, axes=(1, 2)))
    close(kernels, kernels[:, ::-1])
    # Points at the same distance that no symmetry of the grid maps: (3, 4) and (5, 0).
    close(kernels[:, 24 + 3, 24 + 4], kernels[:, 24 + 5, 24])


@pytest.mark.parametrize("build", [texture_filters.leung_malik, texture_filters.maximum_response])
def test_edges_are_odd_and_bars_even_and_turn(build):
    kernels = build()
    edges, bars = kernels[:18], kernels[18:36]
    close(edges, -edges[:, ::-1, ::-1])
    close(bars, bars[:, ::-1, ::-1])
    for scale in range(0, 18, 6):
        close(np.abs(np.rot90(edges[scale])), np.abs(edges[scale + 3]))
        close(np.rot90(bars[scale]), bars[scale + 3])


def test_published_profiles():
    """Differences of kernel values, which the removal of the mean does not change."""
    kernels, centre = texture_filters.maximum_response(), 24

    def profile(x, sigma):  # second derivative of a Gaussian
        return (x**2 - sigma**2) * np.exp(-(x**2) / (2 * sigma**2))

    bar = kernels[18 + 6]  # width 2, along the x axis
    ratio = (bar[centre + 2, centre] - bar[centre, centre]) / (
        bar[centre + 4, centre] - bar[centre, centre]
    )
    expected = (profile(2, 2) - profile(0, 2)) / (profile(4, 2) - profile(0, 2))
    assert ratio == pytest.approx(expected)
    schmid = texture_filters.schmid()[12]  # (10, 4)
    values = [np.cos(np.pi * 4 * r / 10) * np.exp(-(r**2) / 200) for r in (0, 5, 10)]
    found = schmid[centre, centre + np.array([0, 5, 10])]
    assert (found[1] - found[0]) / (found[2] - found[0]) == pytest.approx(
        (values[1] - values[0]) / (values[2] - values[0])
    )


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (texture_filters.gabor, {"wavelengths": (1.0,)}, "at least 2 pixels"),
        (texture_filters.gabor, {"wavelengths": ()}, "at least 2 pixels"),
        (texture_filters.gabor, {"orientations": 0}, "orientations"),
        (texture_filters.gabor, {"bandwidth": 0.0}, "bandwidth"),
        (texture_filters.schmid, {"support": 4}, "odd"),
    ],
)
def test_mistakes_are_told(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
