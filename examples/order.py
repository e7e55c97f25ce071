"""An order whose process dies while it pays, once. Called again, it goes on where it was, and pays no second time."""

import os
from pathlib import Path

import pluperfect
from pluperfect import Completed, flow, task

BANK = Path("bank.txt")  # stands for the outside world


def ask_the_bank(task, run, state):
    paid = BANK.exists() and "order 42" in BANK.read_text()
    return Completed(data="paid", message="the bank has it") if paid else "retry"


@task
def reserve(item: str) -> str:
    print(f"reserving {item}", flush=True)
    return f"reserved {item}"


@task(on_interrupt=ask_the_bank)
def pay(cents: int) -> str:
    print(f"paying {cents}", flush=True)
    BANK.write_text(f"order 42: {cents}\n")
    os._exit(0)  # the process dies before the answer is recorded


@flow(idempotency_key="order-42", flow_run_name="order-42")
def order(item: str, cents: int) -> str:
    return f"{reserve(item)}, {pay(cents)}"


if __name__ == "__main__":
    with pluperfect.open("lmdb:orders"):
        print(order("tea", 995))
