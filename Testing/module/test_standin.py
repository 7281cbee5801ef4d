"""The stand-in itself: it behaves as Slicer was seen to behave, and refuses what Slicer does not have."""
# ruff: noqa: PLC0415 - qt is there only while a desktop is

from __future__ import annotations

import time
from enum import Enum
from types import SimpleNamespace
from typing import Annotated

import pytest
import slicer
from standin.parameter_node import Choice, WithinRange, parameterNodeWrapper

FORM = """<ui version="4.0"><class>Form</class><widget class="qMRMLWidget" name="Form"><layout class="QVBoxLayout">
<item><widget class="qMRMLNodeComboBox" name="volumeSelector">
<property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
<property name="noneEnabled"><bool>true</bool></property>
<property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
<item><widget class="{class_name}" name="control"><property name="{property_name}"><bool>false</bool></property>
</widget></item></layout></widget>
<customwidgets><customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends></customwidget>
<customwidget><class>qMRMLWidget</class><extends>QWidget</extends></customwidget></customwidgets>
<connections><connection><sender>Form</sender><signal>{signal}</signal><receiver>volumeSelector</receiver>
<slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""
SCENE_CHANGED = "mrmlSceneChanged(vtkMRMLScene*)"


@pytest.fixture
def qt(desktop):
    import qt

    return qt


@pytest.fixture
def load_form(desktop, tmp_path):
    """Loads a form with a node selector and one control more."""

    def load(class_name="QCheckBox", property_name="checked", signal=SCENE_CHANGED):
        path = tmp_path / "Form.ui"
        content = FORM.format(class_name=class_name, property_name=property_name, signal=signal)
        path.write_text(content, encoding="utf-8")
        return slicer.util.loadUI(str(path))

    return load


@pytest.fixture
def selector(load_form, scene):
    form = load_form()
    form.setMRMLScene(scene)
    yield slicer.util.childWidgetVariables(form).volumeSelector
    form.setMRMLScene(None)


def add_volume(scene, name="volume"):
    return scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def test_properties_are_attributes_and_not_methods(qt):
    button = qt.QPushButton("x")
    assert button.text == "x"
    assert button.enabled is True
    button.enabled = False
    assert not button.isEnabled()
    with pytest.raises(TypeError, match="'str' object is not callable"):
        button.text()


def test_unknown_names_are_refused(qt):
    import ctk

    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="QPushButton has no attribute named 'checkStateChanged'"):
        button.checkStateChanged  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        button.remark = 1
    with pytest.raises(AttributeError, match="count"):
        qt.QComboBox().count = 3
    for owner, name in ((qt, "QNothing"), (qt.Qt, "Nothing"), (ctk, "ctkNothing"), (slicer.app, "nothing")):
        with pytest.raises(AttributeError, match=name):
            getattr(owner, name)


def test_a_name_that_only_qt_6_has_is_refused(qt):
    with pytest.raises(AttributeError, match="checkStateChanged"):
        qt.QCheckBox().checkStateChanged  # noqa: B018 - reading it is the test


def test_an_unknown_signal_gives_false_and_a_known_one_calls(qt):
    button, calls = qt.QPushButton(), []
    assert button.connect("clicked(bool)", calls.append) is True
    assert button.connect("clicked()", lambda: calls.append("plain")) is True
    assert button.connect("clicked(int)", calls.append) is False
    button.clicked.connect(lambda: calls.append("by attribute"))
    button.click()
    assert calls == [False, "plain", "by attribute"]
    button.blockSignals(True)
    button.click()
    assert len(calls) == 3


def test_a_disconnected_slot_is_not_called(qt):
    button, calls = qt.QPushButton(), []
    button.connect("clicked(bool)", calls.append)
    assert button.disconnect("clicked(bool)", calls.append)
    button.click()
    assert calls == []
    assert not button.disconnect("clicked(bool)", calls.append)


def test_a_failing_slot_does_not_stop_qt_but_is_kept(qt, desktop):
    button, calls = qt.QPushButton(), []
    button.connect("clicked()", lambda: 1 / 0)
    button.connect("clicked()", lambda: calls.append(1))
    button.click()
    assert calls == [1]
    assert isinstance(desktop.slot_errors.pop(), ZeroDivisionError)


def test_enumerators_are_ints_that_qt_takes_back(qt):
    label = qt.QLabel()
    assert qt.Qt.AlignLeft == 1
    label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignTop)
    assert label.alignment == qt.Qt.AlignRight | qt.Qt.AlignTop
    label.alignment = qt.Qt.AlignLeft
    assert label.alignment == 1


def test_one_widget_has_one_wrapper_of_its_class(qt):
    button, outer = qt.QPushButton("x"), qt.QWidget()
    qt.QVBoxLayout(outer).addWidget(button)
    assert button.parent() is outer
    assert outer.layout().itemAt(0).widget() is button
    assert type(button) == qt.QPushButton  # noqa: E721 - how Slicer's connectors ask
    assert isinstance(button, qt.QWidget)
    assert not isinstance(button, qt.QLabel)


def test_a_timer_runs_in_the_event_loop_and_a_block_is_noticed(qt, wait_until, longest_block):
    timer, ticks = qt.QTimer(), []
    timer.interval = 5
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start()
    wait_until(lambda: len(ticks) > 3, 5)
    longest_block()
    qt.QTimer.singleShot(1, lambda: time.sleep(0.2))
    wait_until(lambda: len(ticks) > 10, 5)
    assert 0.2 < longest_block() < 0.5
    with pytest.raises(TimeoutError):
        wait_until(lambda: False, 0.05)


def test_a_ui_file_is_loaded_with_the_controls_of_slicer(load_form, scene):
    form = load_form()
    ui = slicer.util.childWidgetVariables(form)
    assert ui.volumeSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.volumeSelector.property("SlicerParameterName") == "volume"
    assert type(ui.volumeSelector) == slicer.qMRMLNodeComboBox  # noqa: E721 - how Slicer's connectors ask
    form.setMRMLScene(scene)
    assert ui.volumeSelector.mrmlScene() is scene


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"class_name": "QNothing"}, "no class QNothing"),
        ({"class_name": "ctkCheckBox"}, "not among the custom widgets"),
        ({"property_name": "nothing"}, "no property nothing"),
        ({"signal": "sceneChanged()"}, "no signal"),
    ],
)
def test_a_ui_file_with_what_slicer_lacks_is_refused(load_form, wrong, message):
    with pytest.raises(ValueError, match=message):
        load_form(**wrong)


def test_a_node_selector_follows_the_scene(selector, scene):
    changes = []
    assert selector.connect("currentNodeChanged(vtkMRMLNode*)", changes.append)
    first, second = add_volume(scene, "first"), add_volume(scene, "second")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "another kind")
    assert selector.nodeCount() == 3  # a label map is a scalar volume too
    selector.showChildNodeTypes = False
    assert selector.nodeCount() == 2
    assert selector.currentNode() is None
    selector.setCurrentNode(second)
    scene.RemoveNode(second)
    assert selector.currentNode() is None
    selector.setCurrentNodeID(first.GetID())
    assert changes == [second, None, first]
    scene.Clear()
    assert selector.currentNode() is None
    assert selector.nodeCount() == 0


def test_a_node_selector_without_none_takes_the_first_node(selector, scene):
    selector.noneEnabled = False
    node = add_volume(scene)
    assert selector.currentNode() is node


def test_a_node_selector_shows_names_and_hides_hidden_nodes(selector, scene):
    node = add_volume(scene)
    node.SetHideFromEditors(True)
    selector.setMRMLScene(None)
    selector.setMRMLScene(scene)
    assert selector.nodeCount() == 0
    selector.showHidden = True
    node.SetName("renamed")
    box = selector.findChildren(type(selector).__mro__[1])[0]
    assert box.itemText(1) == "renamed"


class Way(Enum):
    NEAR = "near"
    FAR = "far"

    def label(self):
        return self.value.title()


@parameterNodeWrapper
class Parameters:
    """One field of every kind."""

    volume: slicer.vtkMRMLScalarVolumeNode
    way: Way = Way.FAR
    names: list[str]
    sizes: dict[str, int]
    size: Annotated[float, WithinRange(0, 10)] = 2.5
    count: Annotated[int, WithinRange(0, 10)] = 1
    word: Annotated[str, Choice(["a", "b"])] = "a"
    text: str = ""
    on: bool = True


@pytest.fixture
def parameters(scene):
    return Parameters(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def test_parameters_are_kept_in_the_node_and_typed(parameters, scene):
    parameters.volume = volume = add_volume(scene)
    parameters.names, parameters.sizes = ["x", "y"], {"x": 3}
    parameters.way, parameters.size = Way.NEAR, 4.0
    again = type(parameters)(parameters.parameterNode)
    assert again.volume is volume
    assert (list(again.names), dict(again.sizes), again.way, again.size) == (["x", "y"], {"x": 3}, Way.NEAR, 4.0)
    assert again.on is True
    with pytest.raises(TypeError, match="must be of type"):
        parameters.on = "yes"
    with pytest.raises(ValueError, match="range"):
        parameters.size = 11.0
    with pytest.raises(ValueError, match="one of"):
        parameters.word = "c"


def test_a_reference_to_a_node_that_comes_later_is_seen_when_the_parameter_node_says_so(parameters, scene):
    parameters.parameterNode.SetNodeReferenceID("volume", "vtkMRMLScalarVolumeNode1")
    volume = add_volume(scene)
    assert volume.GetID() == "vtkMRMLScalarVolumeNode1"
    assert parameters.volume is None
    parameters.parameterNode.Modified()
    assert parameters.volume is volume


def test_a_field_that_slicer_cannot_store_is_refused():
    class Parameters:
        anything: object

    with pytest.raises(TypeError, match="serializer"):
        parameterNodeWrapper(Parameters)


def test_the_gui_follows_the_parameters_and_the_parameters_the_gui(parameters, selector, qt, scene):
    import ctk

    ui = SimpleNamespace(way=qt.QComboBox(), size=ctk.ctkSliderWidget(), count=qt.QSpinBox(), word=qt.QComboBox())
    ui.text, ui.on, ui.volume = qt.QLineEdit(), qt.QCheckBox(), selector
    for name, widget in vars(ui).items():
        widget.setProperty("SlicerParameterName", name)
    assert parameters.connectGui(ui) is None
    assert (ui.way.currentText, ui.size.value, ui.count.value, ui.on.checked) == ("Far", 2.5, 1, True)
    ui.way.currentIndex, ui.size.value, ui.count.value, ui.on.checked, ui.text.text = 0, 3.5, 4, False, "words"
    ui.volume.setCurrentNode(add_volume(scene))
    assert (parameters.way, parameters.size, parameters.count, parameters.on) == (Way.NEAR, 3.5, 4, False)
    assert parameters.text == "words"
    assert parameters.volume is selector.currentNode()
    parameters.way, parameters.size, parameters.word, parameters.volume = Way.FAR, 1.5, "b", None
    assert (ui.way.currentText, ui.size.value, ui.word.currentText) == ("Far", 1.5, "b")
    assert selector.currentNode() is None
    assert selector.maximumWidth > 0


def test_a_disconnected_gui_is_left_alone(parameters, qt):
    box = qt.QCheckBox()
    tag = parameters.connectParametersToGui({"on": box})
    parameters.disconnectGui(tag)
    box.checked = False
    assert parameters.on is True
    parameters.on = False
    parameters.on = True
    assert box.checked is False


def test_a_pair_that_slicer_cannot_connect_is_refused(parameters, qt):
    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        parameters.connectParametersToGui({"text": qt.QCheckBox()})
    with pytest.raises(ValueError, match="nothing"):
        parameters.connectParametersToGui({"nothing": qt.QCheckBox()})


def test_slice_views_have_real_nodes(desktop, scene):
    volume = add_volume(scene)
    slicer.util.setSliceViewerLayers(background=volume, foregroundOpacity=0.5, fit=True)
    manager = slicer.app.layoutManager()
    assert manager.sliceViewNames() == ("Red", "Green", "Yellow")
    for name in manager.sliceViewNames():
        composite = manager.sliceWidget(name).sliceLogic().GetSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == volume.GetID()
        assert composite.GetForegroundOpacity() == 0.5


def test_messages_reach_the_person_and_are_answered(desktop):
    slicer.util.errorDisplay("It failed.", windowTitle="MedSegReg")
    assert slicer.util.confirmOkCancelDisplay("Shall I?")
    desktop.agrees = False
    assert not slicer.util.confirmYesNoDisplay("Really?")
    assert slicer.util.showStatusMessage("Done.")
    assert desktop.messages == ["It failed.", "Shall I?", "Really?"]
    assert desktop.statuses == ["Done."]


def test_settings_are_not_those_of_the_person_who_tests(desktop, qt, tmp_path):
    qt.QSettings().setValue("MedSegReg/x", 1)
    assert str(qt.QSettings().fileName()).startswith(str(tmp_path))


def test_segments_can_be_selected(qt, scene):
    selector = slicer.qMRMLSegmentSelectorWidget()
    selector.setMRMLScene(scene)
    changes = []
    assert selector.connect("currentSegmentChanged(QString)", changes.append)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for name in ("liver", "spleen"):
        node.GetSegmentation().AddEmptySegment(name, name)
    selector.setCurrentNode(node)
    assert selector.segmentIDs() == ("liver", "spleen")
    assert selector.currentSegmentID() == "liver"
    selector.setCurrentSegmentID("spleen")
    assert changes == ["liver", "spleen"]
    selector.setMRMLScene(None)


def test_several_nodes_can_be_checked(qt, scene):
    box = slicer.qMRMLCheckableNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.setMRMLScene(scene)
    changes = []
    assert box.connect("checkedNodesChanged()", lambda: changes.append(1))
    first, second = add_volume(scene, "first"), add_volume(scene, "second")
    box.setCheckState(second, qt.Qt.Checked)
    assert box.checkedNodes() == (second,)
    assert box.checkState(first) == qt.Qt.Unchecked
    assert len(changes) == 1
    box.setMRMLScene(None)


def test_a_section_folds_and_a_folded_control_cannot_be_clicked(qt, click):
    import ctk

    section, button, calls = ctk.ctkCollapsibleButton("Section"), qt.QPushButton("x"), []
    qt.QVBoxLayout(section).addWidget(button)
    assert section.connect("contentsCollapsed(bool)", calls.append)
    section.show()
    click(button)
    section.collapsed = True
    assert calls == [True]
    with pytest.raises(AssertionError, match="folded away"):
        click(button)
    section.collapsed = False
    button.enabled = False
    with pytest.raises(AssertionError, match="disabled"):
        click(button)


def test_a_path_can_be_edited(qt):
    import ctk

    edit, changes = ctk.ctkPathLineEdit(), []
    assert edit.connect("currentPathChanged(QString)", changes.append)
    edit.currentPath = "models/a model"
    assert changes == ["models/a model"]
