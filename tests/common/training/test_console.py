"""`face-lab` finds the command lines by name."""

from __future__ import annotations

import pytest

from common.training.console import main


def test_names_lead_to_methods_and_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["face-lab", "spigo"])
    assert main() == 2 and "spigo is no command; did you mean spiga?" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["face-lab", "spiga", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.endswith("SPIGA\n")
