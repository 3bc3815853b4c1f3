"""What the licences of SR models mean for what is published."""

import pytest

from fgr.errors import UserError
from fgr.publish.package import Consent
from fgr.publish.sharing import expect_shareable, maker_of_images, tuned_from


@pytest.mark.parametrize(
    ("entry", "may"),
    [
        ({"license": "BSD-3-Clause"}, True), ({"license": "unknown"}, None), ({"license": "CC-BY-ND-4.0"}, False),
        ({"license": "BSD-3-Clause", "redistribute": False}, False), ({"license": "unknown", "redistribute": True}, True),
        ({"license": "mit", "redistribute": None}, True), ({}, None),
        ({"license": "S-Lab-1.0"}, False),
    ],
)  # fmt: skip
def test_may_it_be_passed_on(entry, may):
    assert maker_of_images(entry).may is may


@pytest.mark.parametrize(
    ("license", "may"),
    [
        ("Apache-2.0", True),
        ("CreativeML-OpenRAIL-M", None),
        ("Apache-2.0 AND CreativeML-OpenRAIL++-M", None),
        ("S-Lab-1.0", False),
    ],
)
def test_may_networks_tuned_from_it_be_passed_on(license, may):
    assert tuned_from("net", license).may is may


def test_forbidden_non_commercial_and_unknown():
    forbidden, limited, unknown = (tuned_from("net", license) for license in ("CC-BY-NC-ND-4.0", "S-Lab-1.0", "unknown"))
    with pytest.raises(UserError, match=r"net \(CC-BY-NC-ND-4.0\) forbids passing on pictures"):
        expect_shareable([forbidden], "pictures", Consent(vouched=True, non_commercial=True))
    with pytest.raises(UserError, match="for non-commercial use only"):
        expect_shareable([limited], "pictures", Consent(vouched=True))
    assert expect_shareable([limited], "pictures", Consent(non_commercial=True)) == []
    with pytest.raises(UserError, match="add --vouch"):
        expect_shareable([unknown], "pictures", Consent(public=True))
    assert len(expect_shareable([unknown], "pictures", Consent())) == 1
    assert len(expect_shareable([unknown], "pictures", Consent(public=True, vouched=True))) == 1
