"""A receiver of progress that records the events of a run."""

from bench.execution.progress import Silent


class Recorder(Silent):
    """Records the events of a run, each kind in a list."""

    def __init__(self):
        self.totals, self.labels, self.looks, self.records, self.ends = [], [], [], [], 0

    def start(self, total, done):
        self.totals.append((total, done))

    def cell(self, label):
        self.labels.append(label)

    def look(self, label, reached, wanted, replicates):
        self.looks.append((label, reached, wanted, replicates))

    def finish(self, record):
        self.records.append(record)

    def end(self):
        self.ends += 1
