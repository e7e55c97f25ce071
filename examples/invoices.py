import os
import sys

import pluperfect
from pluperfect import flow, task


@task
def rows(month: str) -> list[dict[str, object]]:
    found = [{"customer": "ann", "cents": 1200}, {"customer": "bob", "cents": 800}, {"customer": "cyd"}]
    return found[: 3 if month == "march" else 2]


@task(retries=1)
def invoice(customer: str, cents: int) -> str:
    if customer == "bob" and "die" in sys.argv:
        os._exit(0)  # the process dies in the middle
    return f"{customer} owes {cents}"


@flow(flow_run_name="invoices-{month}")
def invoices(month: str) -> list[str]:
    return [invoice(row["customer"], row["cents"]) for row in rows(month)]


if __name__ == "__main__":
    with pluperfect.open("lmdb:accounts"):
        invoices.with_options(idempotency_key=sys.argv[1])(sys.argv[1], return_state=True)
