---------------------------- MODULE ledger_trace ----------------------------
(***************************************************************************)
(* The model, moving only along traces that were recorded elsewhere.       *)
(* TraceData, which the tests write, has the traces: sequences of steps.   *)
(* The bounds leave room for all of them. A trace is accepted if the model *)
(* can follow it to its end; how far it came is printed.                   *)
(***************************************************************************)
EXTENDS ledger, TraceData

VARIABLES
    which,  \* the trace
    at      \* the step that comes next

\* What this process appends from here on. Entries are proposed earlier than they are written, and nobody notes when.
Ahead(p) == SelectSeq(SubSeq(Traces[which], at, Len(Traces[which])), LAMBDA step : step.a = "append" /\ step.p = p)

\* A proposal of the entry that this process will write next but for what is queued.
Foreseen(p) ==
    LET coming == Ahead(p)
        k == Len(proc[p].queue) + 1
    IN  /\ k <= Len(coming)
        /\ \E move \in Moves(p, coming[k].r) :
            /\ move[1] = coming[k].st
            /\ coming[k].why \in {move[2], "?"}
            /\ Propose(p, coming[k].r, move)

Same(rec, step) == rec.run = step.r /\ rec.seq = step.seq /\ rec.ep = step.epoch /\ rec.st = step.st

Step ==
    LET step == Traces[which][at]
    IN  /\ at <= Len(Traces[which])
        /\ at' = at + 1
        /\ which' = which
        /\ \/ step.a = "acquire" /\ (Begin(step.p) \/ Acquire(step.p)) /\ proc'[step.p].ep = step.epoch
           \/ step.a = "append" /\ Write(step.p) /\ Same(store'.log[Len(store'.log)], step)
           \/ step.a = "sync" /\ (Sync \/ (disk = store /\ UNCHANGED vars))
           \/ step.a = "user" /\ proc[step.p].mem[step.r].n = step.n /\ RunUser(step.p, step.r)
           \/ step.a = "ack" /\ (Answer(step.p, step.r) \/ Show(step.p, step.r))
           \/ step.a = "kill" /\ (Kill(step.p) \/ (proc[step.p] = Fresh /\ UNCHANGED vars))
           \/ step.a = "power" /\ Power

\* A replaced process notices it at its next append, of which the trace has nothing. Syncs are not hidden: they are
\* what the waits are for.
Hidden == at' = at /\ which' = which /\ \E p \in Procs : Foreseen(p) \/ Refuse(p)

TraceSpec == Init /\ at = 1 /\ which \in DOMAIN Traces /\ [][Step \/ Hidden]_<<vars, which, at>>

ASSUME \A n \in DOMAIN Traces : TLCSet(n, 0)
\* Always true.
Followed == IF at > TLCGet(which) THEN TLCSet(which, at) /\ PrintT(<<"followed", which, at - 1>>) ELSE TRUE
=============================================================================
