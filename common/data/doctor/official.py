"""What the owners' publications say of their sets: faces a split and subset, and where a few faces are.

`KNOWN` holds the mean of all landmarks of some faces, in pixels with the first pixel's centre at 0. It finds a copy
whose coordinates were moved by one pixel, which nothing in the copy itself shows.
"""

from __future__ import annotations

Counts = dict[str, int]  # subset -> faces; "" for all

COUNTS: dict[str, dict[str, Counts]] = {
    "wflw": {
        "train": {"": 7500},
        "test": {"": 2500, "pose": 326, "expression": 314, "illumination": 698, "makeup": 206, "occlusion": 736,
                 "blur": 773},
    },
    "w300": {
        "train": {"": 3148, "afw": 337, "helen": 2000, "lfpw": 811},
        "full": {"": 689, "common": 554, "challenge": 135},
        "common": {"": 554},
        "challenge": {"": 135},
        "public": {"": 3837, "afw": 337, "helen": 2330, "lfpw": 1035, "challenge": 135},
        "private": {"": 600, "indoor": 300, "outdoor": 300},
    },
    "cofw": {"train": {"": 1345}, "test": {"": 507}},
    "aflw2000": {"test": {"": 2000}},
    "aflw2000_3d": {"test": {"": 2000}},
}  # fmt: skip
KNOWN: dict[str, dict[str, tuple[float, float]]] = {
    "w300": {
        "helen/trainset/100032540_1": (799.7, 788.4),
        "helen/trainset/2166384323_1": (541.5, 350.6),
        "helen/trainset/2548725859_2": (1115.6, 1078.6),
        "helen/trainset/296814969_2": (490.3, 477.1),
        "helen/testset/296814969_3": (450.5, 415.0),
        "helen/testset/3048914345_1": (932.2, 963.1),
        "helen/testset/3191256033_1": (411.1, 301.6),
        "helen/testset/3266693323_1": (1096.4, 1045.9),
        "lfpw/trainset/image_0001": (197.3, 288.0),
        "lfpw/trainset/image_0298": (134.2, 150.9),
        "lfpw/trainset/image_0584": (320.5, 166.0),
        "lfpw/trainset/image_0871": (196.7, 263.4),
        "lfpw/testset/image_0001": (306.8, 375.0),
        "lfpw/testset/image_0082": (313.3, 118.3),
        "lfpw/testset/image_0161": (141.3, 204.7),
        "lfpw/testset/image_0239": (286.9, 228.7),
        "afw/1051618982_1": (594.4, 327.2),
        "afw/2805422179_1": (608.5, 237.1),
        "afw/448291547_1": (1037.4, 500.9),
        "afw/955659370_2": (195.0, 763.1),
        "ibug/image_003_1": (382.4, 284.0),
        "ibug/image_047_1": (385.1, 477.9),
        "ibug/image_089_01": (588.1, 153.1),
        "ibug/image_99": (380.7, 105.5),
        "300W/01_Indoor/indoor_001": (552.6, 181.4),
        "300W/01_Indoor/indoor_101": (1077.4, 956.3),
        "300W/01_Indoor/indoor_201": (525.5, 109.5),
        "300W/01_Indoor/indoor_300": (601.9, 474.3),
        "300W/02_Outdoor/outdoor_001": (532.8, 360.2),
        "300W/02_Outdoor/outdoor_101": (3452.9, 1023.7),
        "300W/02_Outdoor/outdoor_201": (2063.1, 1788.0),
        "300W/02_Outdoor/outdoor_300": (408.3, 272.3),
        "helen/testset/3036412907_1": (540.7, 527.6),
        "helen/trainset/105300174_1": (508.4, 581.8),
        "afw/18489332_10": (395.8, 442.9),
        "lfpw/trainset/image_0004": (325.6, 368.5),
    },
    "wflw": {
        "7--Cheering/7_Cheering_Cheering_7_16": (501.7, 384.5),
        "27--Spa/27_Spa_Spa_27_714": (236.4, 261.2),
        "2--Demonstration/2_Demonstration_Demonstrators_2_517": (821.0, 348.5),
        "4--Dancing/4_Dancing_Dancing_4_744": (409.5, 442.1),
    },
    "aflw2000": {
        "image00081": (223.4, 269.3),
        "image00430": (221.8, 264.2),
        "image00514": (223.4, 264.7),
        "image01038": (223.6, 263.1),
        "image02283": (227.1, 270.2),
        "image02545": (229.3, 258.1),
    },
}
