import os
import sys

import pluperfect
from pluperfect import effect_id, flow, task


@task(on_interrupt="fail")
def mail(to: str) -> str:
    print(f"mailing {to}", flush=True)
    key = effect_id()  # hand it to the post office: it knows then that it has this letter already
    if to == "bob":
        os._exit(0)  # the process dies, and nobody knows whether the letter has gone
    return f"mailed {to} under {key}"


@flow(flow_run_name="letters")
def letters(people: list[str]) -> list[str]:
    return [mail(person) for person in people]


if __name__ == "__main__":
    with pluperfect.open("lmdb:post") as log:
        for left in log.recover():
            print(left.outcome, left.run.result())
        if sys.argv[1:] == ["begin"]:
            letters(["ann", "bob", "cyd"])
