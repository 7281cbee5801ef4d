"""A job system that says what a test tells it to say, and remembers what it was asked."""

from __future__ import annotations

from MedSegRegLib.jobs import Done, Failed


class ScriptedJobs:
    """In the place of MedSegRegLib.jobs.Supervisor."""

    def __init__(self):
        self.submitted, self.cancelled, self.stopped, self.events = [], [], [], []
        self.busy = self.closed = self.released = False

    def submit(self, task, arguments, values):
        self.submitted.append((task, arguments, values))
        self.busy = True
        return len(self.submitted)

    def poll(self):
        told, self.events = self.events, []
        self.busy = self.busy and not any(isinstance(event, (Done, Failed)) for event in told)
        return told

    def cancel(self, number):
        self.cancelled.append(number)

    def stop_and_keep(self, number):
        self.stopped.append(number)

    def release(self):
        self.released = True

    def close(self):
        self.closed = True

    def answer(self, runner, result):
        """The job that runs is done."""
        self.events.append(Done(len(self.submitted), result))
        runner.poll()
