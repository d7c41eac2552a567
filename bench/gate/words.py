"""The report of a check as text, Markdown, JUnit XML, JSON or GitHub annotations; the evidence for a cell."""

import json
import shlex
from dataclasses import dataclass
from xml.etree import ElementTree

from bench.gate.baseline import Baseline
from bench.gate.changes import count
from bench.gate.decide import evaluations_text, p_text
from bench.gate.findings import UNCOMPARED, Finding, Verdict
from bench.gate.stages import Report
from bench.records.lines import plain
from bench.records.text import in_code, in_markdown, printable
from bench.report.comment import Table, comment
from bench.stats.gate import ALPHA_BIAS, ALPHA_VARIANCE, STAGE_ONE_BIAS, STAGE_ONE_VARIANCE, STAGE_TWO_FACTOR
from bench.stats.variance import HEAVY_TAIL_INDEX

ORDER = list(Verdict)
QUIET = (Verdict.UNCHANGED, Verdict.IDENTICAL)
"""Verdicts that a comment folds."""
SAME_SAMPLES = (Verdict.IDENTICAL, Verdict.COSTLIER)
"""Verdicts of a cell whose samples equal the baseline's, so that its variance is not measured."""
WORTH_SAYING = 0.05
"""The headline names the bias that could have been missed if this bias, relative to the exact gradient, is larger."""


@dataclass(frozen=True)
class Printer:
    """The report of a check in several formats. ``name`` is the baseline's name or path, as the user typed it.

    The baseline is the file of accepted statistics; the check compares cells (estimators on objectives) with it.
    """

    name: str
    baseline: Baseline
    report: Report

    @property
    def findings(self) -> list[Finding]:
        """The findings of the report, the worst verdicts first."""
        return sorted(self.report.findings, key=lambda finding: ORDER.index(finding.verdict))

    @property
    def headline(self) -> str:
        """The result of the check and the number of cells with each verdict, in one line of text.

        The line is like ``passed: 12 identical (baseline ci, 12 cells)``.
        """
        counts = ", ".join(f"{self.report.counts[v]} {v}" for v in ORDER if self.report.counts[v])
        unjudged = "not all cells could be judged (--strict)"
        if not self.report.compared:
            unjudged = "nothing was judged"
        elif self.report.untimed:
            unjudged = "no speed could be judged (--speed=fail)"
        word = {0: "passed", 1: "incomplete", 3: "FAILED", 4: unjudged}[self.report.exit_code]
        seen = max((f.smallest_bias or 0.0 for f in self.findings if not f.fails), default=0.0)
        missed = f"; a bias below {seen:.0%} of an exact gradient could have been missed" if seen > WORTH_SAYING else ""
        whole = f"(baseline {self.name}, {count(self.report.cells)})"
        return f"{word}: {counts or 'no cell was selected'} {whole}{missed}"

    def text(self) -> str:
        """Return the report of the check for a terminal: changed cells, cells with notes, next steps, the headline."""
        lines = []
        for finding in self.findings:
            if finding.verdict is not Verdict.IDENTICAL and finding.verdict is not Verdict.UNCHANGED:
                lines += [f"{finding.verdict:<13} {finding.label}", f"{'':13} {finding.reason}"]
                lines += [f"{'':13} {note}" for note in finding.notes]
            elif finding.notes:
                lines.append(f"{finding.verdict:<13} {finding.label}: {'; '.join(finding.notes)}")
            if finding.speed not in (None, "unchanged"):
                lines.append(f"{finding.speed or '':<13} {finding.label}: {finding.speed_note}")
        steps = self.next_steps()
        return "\n".join([*lines, *([""] if lines and steps else []), *steps, *([""] if lines else []), self.headline])

    def next_steps(self) -> list[str]:
        """Return the suggested next steps as lines of text, with the commands to run."""
        by = {verdict: [f for f in self.findings if f.verdict is verdict] for verdict in ORDER}
        bad = [*by[Verdict.REGRESSED], *by[Verdict.BIASED], *by[Verdict.BECAME_RANDOM], *by[Verdict.COSTLIER]]
        steps = []
        if bad:
            steps.append(f"To see the evidence: {self.check('--explain', bad[0].label)}")
            steps.append(f"If the change is intended: {self.promote(bad[0]) if len(bad) == 1 else self.promote()}")
        if by[Verdict.MISSING]:
            steps.append(f"If cells were removed on purpose: {self.promote()}")
        if by[Verdict.IMPROVED]:
            steps.append(f"To guard the lower variance: {self.promote()}")
        if by[Verdict.INCONCLUSIVE]:
            replicates = 4 * max(f.screen_replicates or 0 for f in by[Verdict.INCONCLUSIVE])
            check = self.check("--replicates", str(replicates))
            steps.append(f"To find smaller changes: {check}, with a larger baseline")
        if by[Verdict.NEW]:
            steps.append(f"To guard a new cell: {self.promote(by[Verdict.NEW][0])}")
        compared = [f for f in self.findings if f.verdict not in UNCOMPARED]
        if lacking := [f for f in compared if f.baseline_evaluations is None]:
            steps.append(
                f"To compare evaluations of f, which the baseline lacks for {count(len(lacking))}: {self.promote()}"
            )
        if not self.report.findings:
            steps.append(f"The selectors match no cell of the baseline; see `bench baseline show {self.name}`.")
        return steps

    def check(self, *words: str) -> str:
        """Return the command that checks against this baseline, in backquotes: `bench check --baseline ci`.

        ``words`` are further arguments of the command. The baseline is the file of accepted statistics.
        """
        return in_code(f"bench check {shlex.join(['--baseline', self.name, *self._source, *words])}")

    def promote(self, *findings: Finding) -> str:
        """Return the command that promotes this baseline, in backquotes: `bench baseline promote ci`.

        To promote is to measure again and to accept the new statistics. If ``findings`` are given, only their cells are
        promoted.
        """
        words = [word for f in findings for pair in zip(("-e", "-o"), _halves(f), strict=True) for word in pair]
        words = self._source or words
        return in_code(f"bench baseline promote {shlex.join([self.name, *words])}")

    @property
    def _source(self) -> list[str]:
        """The words of a command that name the study with given gradients; none if the cells are measured."""
        study = self.report.options.study
        return [] if study is None else ["--from", str(study)]

    def json(self) -> str:
        """Return the report of the check as one JSON document."""
        report = self.report
        document = {
            "baseline": self.name,
            "cells": report.cells,
            "compared": report.compared,
            "exit_code": report.exit_code,
            "commit": report.commit,
            "alpha": {"variance": ALPHA_VARIANCE, "bias": ALPHA_BIAS},
            "verdicts": {str(verdict): number for verdict, number in report.counts.items()},
            "findings": [finding.to_json() for finding in self.findings],
        }
        return json.dumps(plain(document))

    def markdown(self) -> str:
        """Return the report of the check in Markdown, for a comment on a pull request."""
        mark = "✅" if self.report.exit_code == 0 else "❌"
        shown, folded = list[list[str]](), list[list[str]]()
        for finding in self.findings:
            estimator, objective = (in_code(half).replace("|", "\\|") for half in _halves(finding))
            bold = "**" if finding.fails or finding.verdict is Verdict.FAILED else ""
            foreign = finding.verdict in (Verdict.FAILED, Verdict.MISSING)  # the other reasons are Markdown
            said = in_markdown(_message(finding)) if foreign else _message(finding).replace("|", "\\|")
            quiet = finding.verdict in QUIET and not finding.notes and finding.speed in (None, "unchanged")
            (folded if quiet else shown).append([f"{bold}{finding.verdict}{bold}", estimator, objective, said])
        header = ("verdict", "estimator", "objective", "what was found")
        fold = f"{count(len(folded))} without a change"
        title = f"### {mark} `bench check`: {in_markdown(self.headline)}"
        steps = [f"- {step}" for step in self.next_steps()]
        return comment(title, [Table(header, shown), Table(header, folded, fold)], steps)

    def junit(self) -> str:
        """Return the report of the check as JUnit XML: one test case per cell."""
        findings, counts = self.findings, self.report.counts
        facts = {
            "name": printable(f"bench check --baseline {self.name}"),
            "tests": str(len(findings)),
            "failures": str(sum(map(self._fails, findings))),
            "errors": str(counts[Verdict.FAILED]),
            "skipped": str(counts[Verdict.NEW] + counts[Verdict.NOT_GATEABLE]),
        }
        root = ElementTree.Element("testsuites")
        suite = ElementTree.SubElement(root, "testsuite", facts)
        for finding in findings:
            estimator, objective, said = map(printable, (*_halves(finding), _message(finding)))  # all of it fits XML
            case = ElementTree.SubElement(suite, "testcase", classname=objective, name=estimator)
            tag = "failure" if self._fails(finding) else "error" if finding.verdict is Verdict.FAILED else ""
            if tag:
                ElementTree.SubElement(case, tag, type=finding.verdict, message=said)
            elif finding.verdict in (Verdict.NEW, Verdict.NOT_GATEABLE):
                ElementTree.SubElement(case, "skipped", message=said)
            ElementTree.SubElement(case, "system-out").text = f"{finding.verdict}: {said}"
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"

    def annotations(self) -> list[str]:
        """Return the findings as GitHub workflow commands, which GitHub shows as errors, warnings and notices."""
        lines = []
        for finding in self.findings:
            fault = self._fails(finding) or finding.verdict is Verdict.FAILED
            doubt = finding.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_GATEABLE) or finding.speed == "slower"
            other = finding.verdict in (Verdict.IMPROVED, Verdict.NEW)
            if level := "error" if fault else "warning" if doubt else "notice" if other else "":
                title = _property(f"{finding.verdict}: {finding.label}")
                lines.append(f"::{level} title={title}::{_escaped(_message(finding))}")
        if not self.report.compared:
            lines.append(f"::error title=bench check::{_escaped(self.headline)}")
        return lines

    def explain(self, finding: Finding) -> str:
        """Return the evidence for a finding: the tests, their samples, and the command that repeats the check."""
        made_with = self.baseline.environment
        commit = f"commit {made_with['commit']}" if made_with.get("commit") else "no commit"
        said = (
            f"{self.name}, {count(self.report.cells)}, {commit}, "
            f"torch {made_with.get('torch')}, {made_with.get('cpu_capability')}"
        )
        rows = [("cell", f"{finding.label} ({finding.cell})"), ("verdict", f"{finding.verdict}: {finding.reason}")]
        rows += [*(("note", note) for note in finding.notes), ("baseline", said)]
        if entry := self.baseline.entry(finding.cell):
            tail = "discrete" if entry.khat is None else f"{entry.khat:.2f}"
            said = (
                f"{entry.replicates} replicates, seed {self.baseline.setting.seed}, {self.baseline.setting.dtype}: "
                f"variance {entry.said}, cv² {entry.cv2:.3g}, tail index {tail}, {entry.status}"
            )
            rows.append(("baseline run", said))
        rows += self._stages(finding).items()
        if finding.smallest_change is not None:
            rows.append(("could see", f"growth of {finding.smallest_change:.0%} or more, with probability 0.9"))
        if finding.smallest_bias is not None:
            part = f"{finding.smallest_bias:.1%} of the exact gradient"
            rows.append(("could see", f"a bias of {part} or more in its direction, with probability 0.9"))
        if finding.evaluations is not None:
            rows.append(("evaluations", f"{evaluations_text(*finding.evaluations)} per estimate"))
        if finding.speed:
            rows.append(("speed", f"{finding.speed}: {finding.speed_note}"))
        rows.append(("again", self._again(finding)))
        width = max(len(word) for word, _ in rows)
        return "\n".join(f"{word:<{width}}  {said}" for word, said in rows)

    def _stages(self, f: Finding) -> dict[str, str]:
        if f.screen_replicates is None:
            why = "the first draws equal the baseline's" if f.verdict in SAME_SAMPLES else "nothing to test"
            return {"tested": f"no test: {why}"}
        if self.report.options.study is not None:
            return {"tested": f"{f.screen_replicates} given gradients, once"} | self._tests(f)
        rows = {
            "screen": f"{f.screen_replicates} replicates, seed {f.screen_seed}, margin 0: {p_text(f.p_screen)} "
            f"(flagged at {STAGE_ONE_VARIANCE}), bias: {p_text(f.p_bias_screen)} (flagged at {STAGE_ONE_BIAS})"
        }
        if f.confirm_replicates is None:
            return rows | {"confirm": "not needed: the screen did not flag the cell"}
        rows["confirm"] = (
            f"{f.confirm_replicates} replicates, {STAGE_TWO_FACTOR} times the screen's; seed {f.confirm_seed} from "
            f"{self.report.commit} and the cell"
        )
        return rows | self._tests(f)

    def _tests(self, f: Finding) -> dict[str, str]:
        rows, corrected = dict[str, str](), f"after correction for {count(self.report.cells)}"
        if f.p is not None:
            how = "twice the smaller one"
            if f.p_variance is None:
                how = f"tail index {HEAVY_TAIL_INDEX} or more: the truncated test alone"
            elif f.p_truncated is None:
                how = "nothing is truncated: one test"
            rows["variance"] = (
                f"margin {f.margin:.0%}: {p_text(f.p)} ({how}; "
                f"variance: {p_text(f.p_variance)}, truncated: {p_text(f.p_truncated)}), {p_text(f.p_adjusted)} "
                f"{corrected}, fails at {ALPHA_VARIANCE}"
            )
        if f.p_bias is not None:
            rows["bias"] = f"{p_text(f.p_bias)}, {p_text(f.p_bias_adjusted)} {corrected}, fails at {ALPHA_BIAS}"
        return rows

    def _again(self, finding: Finding) -> str:
        options = self.report.options
        words = ["bench", "check", "--baseline", self.name, *self._source, "--explain", finding.label]
        if finding.screen_replicates is not None and not self._source:
            words += ["--replicates", str(finding.screen_replicates), "--seed", str(finding.screen_seed)]
        words += ["--margin", str(options.margin)] if options.margin is not None else []
        words += ["--device", options.device] if options.device is not None else []
        return f"{shlex.join(words)} (at {self.report.commit})"

    def _fails(self, finding: Finding) -> bool:
        return finding.fails or (finding.speed == "slower" and self.report.options.speed == "fail")


def _message(finding: Finding) -> str:
    return "; ".join([finding.reason, *finding.notes, *([finding.speed_note] if finding.speed else [])])


def _halves(finding: Finding) -> tuple[str, str]:
    """Return the selectors of a finding's estimator and objective."""
    estimator, _, objective = finding.label.partition(" on ")
    return estimator, objective


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
