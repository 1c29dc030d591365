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


def unit(kernel):
    kernel = kernel - kernel.mean()
    return kernel / np.abs(kernel).sum()


def gaussian(x, sigma):
    return np.exp(-0.5 * (x / sigma) ** 2)


def along_and_across(radius, angle):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def edges_and_bars(sigmas):
    """First and second derivatives of Gaussians three times as long as wide, 49 x 49."""
    for derivative in (lambda v, s: -v / s**2, lambda v, s: (v**2 - s**2) / s**4):
        for sigma in sigmas:
            for number in range(6):
                u, v = along_and_across(24, np.pi * number / 6)
                yield unit(derivative(v, sigma) * gaussian(v, sigma) * gaussian(u, 3 * sigma))


def spot(sigma, radius=24):
    r = np.hypot(*along_and_across(radius, 0.0))
    return unit((r**2 - 2 * sigma**2) / sigma**4 * gaussian(r, sigma))


def blob(sigma):
    return unit(gaussian(np.hypot(*along_and_across(24, 0.0)), sigma))


def test_leung_malik_is_that_of_the_paper():
    sigmas = np.sqrt(2) ** np.arange(1, 5)
    expected = [
        *edges_and_bars(sigmas[:3]),
        *map(spot, (*sigmas, *(3 * sigmas))),
        *map(blob, sigmas),
    ]
    close(texture_filters.leung_malik(), expected)


def test_maximum_response_is_that_of_the_paper():
    expected = [*edges_and_bars((1, 2, 4)), blob(10), spot(10)]
    close(texture_filters.maximum_response(), expected)


def test_schmid_is_that_of_the_paper():
    r = np.hypot(*along_and_across(24, 0.0))
    cycles = {2: (1,), 4: (1, 2), 6: (1, 2, 3), 8: (1, 2, 3), 10: (1, 2, 3, 4)}
    expected = [
        unit(np.cos(np.pi * tau * r / sigma) * gaussian(r, sigma))
        for sigma, taus in cycles.items()
        for tau in taus
    ]
    close(texture_filters.schmid(), expected)


def test_laplacians_reach_four_of_the_widest():
    close(texture_filters.laplacians((0.7, 2.1)), [spot(0.7, 9), spot(2.1, 9)])


def test_gabor_is_a_wave_in_a_gaussian_of_its_bandwidth():
    # One octave and a half at half the height: sigma is this share of the wavelength.
    share = np.sqrt(np.log(2) / 2) / np.pi * (2**1.5 + 1) / (2**1.5 - 1)
    even, odd = [], []
    for wavelength in (4.0, 7.0):
        for number in range(3):
            u, v = along_and_across(9, np.pi * number / 3)  # 3 * 0.391 * 7 = 8.2
            envelope = gaussian(np.hypot(u, v), share * wavelength)
            wave = envelope * np.cos(2 * np.pi * u / wavelength)
            even.append(unit(wave - envelope * wave.sum() / envelope.sum()))
            odd.append(unit(envelope * np.sin(2 * np.pi * u / wavelength)))
    close(texture_filters.gabor((4.0, 7.0), 3, 1.5), even + odd)


def test_gabor_by_default_spans_four_wavelengths_and_an_octave():
    close(texture_filters.gabor(), texture_filters.gabor((3.5, 6.0, 11.0, 20.0), 6, 1.0))


def test_the_smallest_of_everything():
    assert texture_filters.gabor((2.0,), 1).shape[0] == 2
    for build in (
        texture_filters.leung_malik,
        texture_filters.schmid,
        texture_filters.maximum_response,
    ):
        assert build(3).shape[1:] == (3, 3)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (texture_filters.gabor, {"wavelengths": (1.0,)}, "at least 2 pixels"),
        (texture_filters.gabor, {"wavelengths": ()}, "at least 2 pixels"),
        (texture_filters.gabor, {"orientations": 0}, "orientations"),
        (texture_filters.gabor, {"bandwidth": 0.0}, "bandwidth"),
        (texture_filters.schmid, {"support": 4}, "odd"),
        (texture_filters.schmid, {"support": 1}, "at least 3"),
    ],
)
def test_mistakes_are_told(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
