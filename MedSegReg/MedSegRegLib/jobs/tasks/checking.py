"""Task ``check_transform``. Jobs walk: worker -> [checking] -> the contract of a transform."""

from __future__ import annotations

from dataclasses import asdict

from ...files.itk_transform import itk_from_transform
from ...register.contract import check_transform as read_contract
from ...report import findings_data
from ..values import JobResult
from ..work import Work


def check_transform(work: Work) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    transform = work.transform("transform")
    work.progress.update(0.1, "looking at the transform")
    contract = read_contract(
        transform,
        itk_from_transform(transform),
        inverse=work.transform("inverse") if "inverse" in work.values else None,
        fixed=work.image("fixed") if "fixed" in work.values else None,
        moving=work.image("moving") if "moving" in work.values else None,
    )
    return JobResult({**asdict(contract), "findings": findings_data(contract.findings)}, {})
