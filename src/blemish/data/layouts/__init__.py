"""Layouts of data sets in folders: one module per layout, and a line in LAYOUTS."""

from __future__ import annotations

from blemish.data.layouts import (
    autovi,
    btad,
    dagm,
    folder,
    kolektor_sdd,
    kolektor_sdd2,
    magnetic_tile,
    mpdd,
    mvtec_ad,
    mvtec_ad_2,
    mvtec_loco,
    real_iad,
    severstal,
    visa,
)
from blemish.data.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {
    "visa": visa.LAYOUT,
    "visa_fewshot": visa.FEWSHOT,
    "visa_highshot": visa.HIGHSHOT,
    "btad": btad.LAYOUT,
    "mvtec_loco": mvtec_loco.LAYOUT,
    "mvtec_ad_2": mvtec_ad_2.LAYOUT,
    "real_iad": real_iad.LAYOUT,
    "real_iad_sv": real_iad.SINGLE_VIEW,
    "real_iad_fuiad": real_iad.UNSUPERVISED,
    **{f"real_iad_fuiad_{share}": layout for share, layout in real_iad.NOISY.items()},
    "kolektor_sdd": kolektor_sdd.LAYOUT,
    "kolektor_sdd_fold2": kolektor_sdd.FOLD_2,
    "kolektor_sdd_fold3": kolektor_sdd.FOLD_3,
    "kolektor_sdd2": kolektor_sdd2.LAYOUT,
    "dagm": dagm.LAYOUT,
    "severstal": severstal.LAYOUT,
    "magnetic_tile": magnetic_tile.LAYOUT,
    "autovi": autovi.LAYOUT,
    "mpdd": mpdd.LAYOUT,
    "mvtec": mvtec_ad.LAYOUT,
    "folder": folder.LAYOUT,
}
"""Name -> layout, tried in this order: the general ones come last. Of several splits of one set the first is taken."""
