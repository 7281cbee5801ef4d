"""Any of the walks in a child process: it can be cancelled, it may crash, and nothing here waits for it.

A window polls, and is never blocked::

    jobs = Supervisor()
    job = jobs.submit("register", {"preset": "rigid"}, {"fixed": fixed, "moving": moving})
    ...
    for event in jobs.poll():           # from a timer; returns at once
        if isinstance(event, Done) and event.job == job:
            transform = event.result.transform("transform")

A script waits::

    with Supervisor() as jobs:
        result = jobs.wait(jobs.submit("compute"))

``Supervisor(python=None, *, tasks=..., idle_seconds=600, patience_seconds=4, folder=None)`` starts its child when the
first job is submitted, keeps it with its loaded models for the next jobs, ends it after ``idle_seconds`` without a job
(which frees its memory), and starts it again when it is needed. ``python`` is the executable; None takes PythonSlicer
inside Slicer, else the running one. Methods, all of which return at once except ``wait`` and ``close``:

``submit(task, arguments=None, values=None) -> int``
    Queue a job, give its number. Jobs run one after the other in the order of submission. ``arguments`` is plain JSON;
    ``values`` are arrays, :class:`Voxels`, :class:`Chain`, or ``Image``, ``Labels``, ``Transform`` of the library, by
    name. A thread writes them to a private temporary folder, from where the child maps them: leave an array unchanged
    until ``Started``.
``poll() -> list[Event]``
    What has happened since the last call, oldest first.
``wait(job, on_event=None) -> JobResult``
    Block until the job has ended; gives its result or raises its error. Events of other jobs are kept for ``poll``.
``cancel(job)``
    Ask the job to stop; its process is killed if it has not stopped after ``patience_seconds``. Ends in ``Failed`` with
    ``errors.Cancelled``. Unknown, ended and twice cancelled jobs: nothing happens.
``stop_and_keep(job)``
    End the running registration or correction as soon as there is something to keep: ``Done`` with the best transform
    so far and ``data["stopped"]`` True. Other tasks run to their end.
``busy``
    Whether a job is queued or running.
``release()``
    End the child when no job is queued or running: frees memory, and newly installed packages are seen by the next one.
``close()``
    Cancel all jobs by force, end the child, remove all files. Also the end of ``with``, and of the process.

Events (frozen dataclasses with ``job``, the number):

``Started``       the job's values are in place and the child works on it
``Progressed``    ``fraction`` 0..1, ``message``, ``seconds_left`` (float, or None while unknown); about 10 a second
``Intermediate``  ``result`` so far, a :class:`JobResult`
``Done``          ``result``; last event of a job
``Failed``        ``error``, an exception of ``errors`` (``Cancelled`` after a cancel; ``WorkerLost`` when the child was
                  killed, crashed or could not start, with the likely cause; ``MissingPackage`` without torch), and
                  ``details``: traceback or log for a bug report, "" when the error says all; last event of a job

A :class:`JobResult` has ``data`` (plain JSON) and ``values`` by name, in memory: nothing of a job is left on the disk
when its last event is given. ``array(name)``, ``voxels(name)``, ``chain(name)`` are as they came; ``image(name)``,
``labels(name)``, ``transform(name)`` make the library's objects of them. :class:`Voxels` is an array
[K, J, I] or [C, K, J, I] with ``geometry``, ``name``, ``structures`` (dicts), ``channel_names``. :class:`Chain` is a
transform: ``stages``, each a 4x4 matrix or the Voxels [3, K, J, I] of a displacement in RAS mm. Nothing of this imports
torch in the parent, as long as no tensor of a result is asked for.

Tasks: arguments (with defaults), values -> data, values. Everywhere ``device="auto"``; ``findings`` is a list of
``{"level": "info" | "warn", "message", "fix"}``; ``points`` are [[r, a, s], ...] in mm.

``segment``   model (a name, a folder, or a list of them), engine="auto", options={} (``SegmentationOptions``),
              region=None (points: only their box is looked at);
              value "image", or one a channel by the channel's name
              -> provenance {str: str}, findings; "labels", with options {"confidence": true} also "margin", "entropy"
``plan``      model, engine="auto", size_ijk, ijk_to_ras (4x4), region=None, mirror=False
              -> sentence, seconds (None: not measured), host_bytes, device_bytes, free_host_bytes, tiles, engine
``register``  preset="deformable" (a key of ``PRESETS``) or settings (``RegistrationSettings``), fixed_points,
              moving_points (row by row the same place), measure_only=[] ("points", "labels": not used as guidance),
              outputs=[] ("resampled", "resampled_labels", "jacobian");
              "fixed", "moving", and, each optional, "fixed_mask", "moving_mask", "initial" (transform), "fixed_labels",
              "moving_labels", "rigid", "ignore"
              -> quality (``Quality`` without dice and landmarks_mm), sentence, findings, settings, preset, seconds,
              device, stopped, dice {structure: {"before", "after"}} and landmarks_mm (the same) of what was given;
              "transform", "inverse" (fixed to moving RAS, and back); on the fixed grid: "resampled" (the moving image),
              "resampled_labels" (its labels), "jacobian"
              Intermediate after each deformable level: "transform"; data number, levels, spacing_mm, similarity
``correct``   the same, but without measure_only; "transform" (what was found before, for "before") instead of "initial"
``check_transform``  "transform", and, each optional, "inverse", "fixed", "moving"
              -> the fields of ``register.contract.Contract``
``carry``     preset="auto" (the images choose, else a key of ``PRESETS``) or settings, points=None;
              "source", "target", and, each optional, "labels", "source_mask", "target_mask"
              -> sentence, registration (its sentence), review {heading: cells} (the least certain structure first; NaN
              where there is no number), points_ras, points_disagreement_mm, points_inside, findings, settings, preset,
              device; "transform" (target to source RAS), "inverse", "labels" (on the target's grid)
``atlas``     fusion="local" (or "majority"), preset="auto" or settings;
              "image", "atlas0", "labels0", "atlas1", ... (structures of one name are one), optional "mask"
              -> registrations [sentence], findings, fusion, preset, device; on the image's grid "labels", "agreement"
``joint``     model=None, preset="auto" or settings, rounds=2; "fixed", "moving"; without a model "fixed_labels" and
              "moving_labels" (one name in both is one structure); optional "fixed_mask", "moving_mask"
              -> sentence, registration, rounds [{"number", "score", "agreement", "cycle_voxels", "dice"}], kept,
              findings, settings, fixed_structures and moving_structures (columns of a table), preset, device;
              "transform", "inverse", and on the grid of each study, as "fixed_..." and "moving_...": "own", "carried",
              "fused", "disagreement"
``template``  preset="deformable" or settings, rounds=4; "study0", "study1", ... and none or all of "labels0", ...
              -> rounds [{"number", "shape_mm", "change", "sharpness"}], findings, preset, device; "template", "mask",
              "transform0" (template to study RAS), "inverse0", ...; with labels "labels", "probabilities"
``sequence``  keys (numbers of frames), cyclic=False, smooth=True, preset="same-contrast" ("changing-contrast",
              "moving-body") or settings; "frame0", "frame1", ... and "key0", ... (labels of each of keys)
              -> sentence, review {heading: cells} (a row a frame), key_dice, around_mm, stiffness, findings, settings,
              preset, cyclic, device; "labels0", "labels1", ..., on each frame's grid
              Intermediate for each frame: data frame, confidence (None at key frames)
``align``     reference (name of a value), preset="rigid" (or "affine"), model=None, engine="auto", native=[] (names of
              values on whose grids the labels are wanted; none: the reference's); values: two or more images
              -> sentence, reference, series {name: fields of ``AlignmentCheck``}, settings, preset, device, findings,
              with a model provenance; for each but the reference "transform NAME" (reference RAS to its RAS) and
              "resampled NAME" (on the reference's grid); with a model "labels NAME"
``evaluate``  tolerance_mm=1.0, match="name" (or "value"); "truth", "prediction" (labels on one grid)
              -> scores: a list, fields of ``StructureScores``
``followup``  preset="followup" or settings, lesions=None (names of structures; None: by category and name),
              border_mm=None, spacing_mm=None;
              "image0", "image1", ... (oldest first), and, each optional, "labels0", ..., "reference0", ... (masks)
              -> sentence, visits [name], to_visit [4x4, mid-way RAS to visit RAS], rigid_error_mm, volumes and, one an
              interval, changes {heading: cells} and places_ras [points in the mid-way space, row by row], report
              (HTML), findings, settings, preset, device; "midway0", ... (visits in the mid-way space), and one an
              interval "transform0", ... (earlier to later visit RAS), "inverse0", "change0", "jacobian0"
``adapt``     model, cases=[{"name", "patient"}], name=None, output=None (a folder; None installs the adapted model into
              the user's models, where the name must be free), replace=False (one of that name gives way),
              settings={} (``FineTuning``); "image0", "labels0", "image1", ...
              -> parent, measured, scores, dice_before, dice_after, verdict, seconds, model (None: the parent is kept),
              installed ("installed" | "replaced" | "unchanged" | None)
``compute``   nothing -> python, torch, torch_cuda, processor_threads, free_host_bytes, devices [{"name", "description",
              "usable", "problem", "memory_bytes"}], engines {name: version, "" when not installed}
``verify``    model (name or folder) -> model, signature; an error when it is not whole
``install``   source (file or folder, ours or of another tool), replace=False, licence=None
              -> outcomes {name: "installed" | "replaced" | "repaired" | "unchanged"}, findings [sentence, ...]
``export``    models [name or folder, ...], path (a .zip) -> models [name], sha256
``remove``    model -> folder
"""

from .events import Done, Event, Failed, Intermediate, Progressed, Started
from .supervisor import Supervisor
from .values import Chain, JobResult, Value, Voxels, as_value

__all__ = [
    "Chain",
    "Done",
    "Event",
    "Failed",
    "Intermediate",
    "JobResult",
    "Progressed",
    "Started",
    "Supervisor",
    "Value",
    "Voxels",
    "as_value",
]
