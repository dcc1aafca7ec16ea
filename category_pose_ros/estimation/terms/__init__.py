"""Terms: everything that moves a pose."""

from category_pose_ros.estimation.terms.axes import AxesTerm
from category_pose_ros.estimation.terms.belief import BeliefTerm
from category_pose_ros.estimation.terms.correspondence import CorrespondenceTerm
from category_pose_ros.estimation.terms.depth import DepthTerm
from category_pose_ros.estimation.terms.resting import RestingTerm
from category_pose_ros.estimation.terms.silhouette import SilhouetteTerm
from category_pose_ros.estimation.terms.size_prior import SizePriorTerm

__all__ = [
    "AxesTerm",
    "BeliefTerm",
    "CorrespondenceTerm",
    "DepthTerm",
    "RestingTerm",
    "SilhouetteTerm",
    "SizePriorTerm",
]
