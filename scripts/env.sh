# Sourced by the other scripts from the root of the clone: makes .venv, and the environments beside it (.venv-tflite,
# .venv-flex, ...), when they are missing or out of date.

say() { echo "$*" >&2; }

find_python() {
    # The first interpreter that starts and is 3.11 or newer; 3.11 first, which is what the pins were tested with.
    for candidate in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    say "no Python 3.11 or newer with venv was found; install python3.11 and python3.11-venv, or set PYTHON=/path/to/python"
    return 2
}

make_venv() {
    # .venv with edgekit (editable), all that makes and runs models, and the tools of the tests. The stamp holds what it was
    # made from; it is written last, so that a broken installation is repeated.
    stamp=$(cat pyproject.toml constraints.txt | cksum)
    if [ -x .venv/bin/python ] && [ "$(cat .venv/.edgekit-stamp 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    python=$(find_python) || return 2
    [ -x .venv/bin/python ] || "$python" -m venv .venv || return 4
    say "installing into .venv (once; again only when pyproject.toml or constraints.txt change)"
    # Up to the first release that knows them, pip and setuptools take neither PEP 639 licences nor editable package maps.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip setuptools || return 4
    # setuptools warns at length that an editable installation is one.
    PYTHONWARNINGS="ignore:Editable installation" .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        -c constraints.txt -e '.[host,mlflow,ray,report,dev,test-sources]' || return 4
    echo "$stamp" > .venv/.edgekit-stamp
}

make_second_venv() {
    # FOLDER CONSTRAINTS MINORS LACKING: an environment beside .venv for packages that cannot be in it, made by the first Python
    # 3.MINOR that starts. Prints the interpreter's path; nothing when it cannot be made, and LACKING says what is left out then.
    stamp=$(cksum < "$2")
    if [ "$(cat "$1/.edgekit-stamp" 2>/dev/null)" != "$stamp" ]; then
        for candidate in "${PYTHON311:-}" python3.11 python3.12 python3.13 .venv/bin/python python3 \
            "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9]*/bin/python; do
            [ -n "$candidate" ] || continue
            "$candidate" -c "import sys, venv, ensurepip; sys.exit(sys.version_info[1] not in ($3,))" 2>/dev/null && break
            candidate=
        done
        if [ -z "$candidate" ]; then
            say "no Python 3.x with x in $3: $4"
            return 0
        fi
        "$candidate" -m venv "$1" || return 0
        if ! "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"; then
            say "the packages of $2 could not be installed: $4"
            return 0
        fi
        echo "$stamp" > "$1/.edgekit-stamp"
    fi
    echo "$PWD/$1/bin/python"
}

make_tflite_venv() {
    # tflite-runtime exists for Python 3.11 and numpy 1 only.
    make_second_venv .venv-tflite constraints-tflite-runtime.txt 11 "the tests of tflite-runtime are skipped"
}

make_flex_venv() {
    # TensorFlow with Flex operators, which later releases than that of .venv no longer bring: for files that need them.
    make_second_venv .venv-flex constraints-flex.txt "11, 12" "the tests of Flex operators are skipped"
}

make_onnx2tf_venv() {
    # onnx2tf wants Python 3.12 and pins of its own: for ONNX files that become TFLite.
    make_second_venv .venv-onnx2tf constraints-onnx2tf.txt "12, 13" "the tests of ONNX to TFLite are skipped"
}

make_mediapipe_venv() {
    # MediaPipe Tasks, with OpenCV and matplotlib: what apps load .tflite files with.
    make_second_venv .venv-mediapipe constraints-mediapipe.txt "11, 12, 13" "the tests of MediaPipe are skipped"
}

make_tflm_venv() {
    # TensorFlow Lite for Microcontrollers, whose interpreter measures the arena of package --for mcu.
    make_second_venv .venv-tflm constraints-tflm.txt "11, 12, 13" "the tests of microcontrollers are skipped"
}

make_packages() {
    # FOLDER PATTERN LACKING: packages of constraints.txt in a folder away from .venv, without what they depend on. Prints the
    # folder; nothing when they cannot be had, and LACKING says what is left out then.
    stamp=$(grep -E "$2" constraints.txt | cksum)
    if [ "$(cat "$1/.edgekit-stamp" 2>/dev/null)" != "$stamp" ]; then
        rm -rf "$1"
        if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$1" \
            $(grep -E "$2" constraints.txt); then
            say "$3"
            return 0
        fi
        echo "$stamp" > "$1/.edgekit-stamp"
    fi
    echo "$PWD/$1"
}

make_timm() {
    # timm for the tests of timm:NAME (scripts/timm_here.py says why it is not in .venv).
    make_packages .venv-timm '^(timm|torchvision)==' "timm could not be installed: its tests are skipped"
}

make_ncnn() {
    # ncnn and its converter, for the worked example of a runtime from elsewhere.
    make_packages .venv-ncnn '^(ncnn|pnnx)==' "ncnn could not be installed: the tests of examples/ncnn are skipped"
}

make_openvino_venv() {
    # OpenVINO, and NNCF for the tables that compare with it: their pins are not ours.
    make_second_venv .venv-openvino constraints-openvino.txt "11, 12, 13" "the tests of OpenVINO are skipped"
}

make_executorch_venv() {
    # ExecuTorch with the torchao that it wants.
    make_second_venv .venv-executorch constraints-executorch.txt "11, 12, 13" "the tests of ExecuTorch are skipped"
}
