#!/bin/sh
# An environment of its own for each peer, under a folder:   install.sh FOLDER [temporal] [dbos] [langgraph]
set -eu
folder=$1
shift
[ $# -gt 0 ] || set -- temporal dbos langgraph
for name in "$@"; do
    case $name in
    temporal) what="temporalio==1.35.*" ;;
    dbos) what="dbos==3.4.*" ;;
    langgraph) what="langgraph==1.2.*" ;;
    *) echo "no such peer: $name" >&2; exit 2 ;;
    esac
    [ -x "$folder/$name/bin/python" ] || python3 -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet "$what"
done
