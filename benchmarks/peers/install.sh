#!/bin/sh
# An environment of its own for each peer, and for this library, under a folder:   install.sh FOLDER [NAME ...]
# The names: pluperfect temporal dbos langgraph eventsourcing prefect. Without any, all.
set -eu
folder=$1
shift
[ $# -gt 0 ] || set -- pluperfect temporal dbos langgraph eventsourcing prefect
for name in "$@"; do
    case $name in
    # As it stands in this folder, with what it needs and no more.
    pluperfect) what="--editable $(dirname "$0")/../.." ;;
    temporal) what="temporalio==1.35.*" ;;
    # DBOS wants a newer SQLite than some Pythons bring.
    dbos) what="dbos==3.4.* pysqlite3-binary" ;;
    langgraph) what="langgraph==1.2.*" ;;
    eventsourcing) what="eventsourcing==9.5.*" ;;
    # The server of Prefect 3.8 says min_items to a FastAPI that no longer knows it.
    prefect) what="prefect>=3,<4 fastapi<0.120" ;;
    *) echo "no such peer: $name" >&2; exit 2 ;;
    esac
    [ -x "$folder/$name/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder/$name"
    # shellcheck disable=SC2086 # several requirements
    "$folder/$name/bin/python" -m pip install --quiet $what
done
