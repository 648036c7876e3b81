"""What a proof runs on besides made inputs: samples of a data set, and one input of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.types import Card, Feed, InputSpec, Signature

if TYPE_CHECKING:
    from edgekit.data import Dataset


class RealInputs:
    """The data set is opened at once, so that a wrong name is an error before any work.

    Args:
        data: a data set, as ``--data`` takes it.
        given: a file, as ``--input`` takes it.

    Raises:
        DataError: there is no such data set.
    """

    def __init__(self, data: str | None, given: str | None) -> None:
        self.data, self.given = data, given
        self._dataset: Dataset | None = None
        if data is not None:
            from edgekit.data import open_data

            self._dataset = open_data(data)

    def described(self, card: Card) -> Card:
        """``card`` with what the data say and a network of the user's own does not: names of columns, what is forecast.

        Raises:
            DataError: the network reads another number of columns than a series has.
        """
        from edgekit.quality.forecast import as_forecaster

        return card if self._dataset is None else as_forecaster(card, self._dataset)

    def feeds(self, signature: Signature, contract: Mapping[str, InputSpec]) -> list[Feed]:
        """All of them, one sample each.

        Raises:
            DataError: the file cannot be read, or does not fit the inputs.
        """
        from edgekit.data import stratified
        from edgekit.data.preprocess import feeds, sample_feed
        from edgekit.quality.cases import CASE_SAMPLES

        found = [] if self.given is None else [sample_feed(self.given, signature, contract)]
        if self._dataset is not None:
            found += feeds(stratified(self._dataset, CASE_SAMPLES), signature, contract)
        return found
