---------------------------- MODULE ledger_trace ----------------------------
(***************************************************************************)
(* The model, moving only along a trace that was recorded elsewhere.       *)
(* TraceData, which the tests write, has the trace and the bounds:         *)
(* a process for each in the trace, a child for each run, room for all.    *)
(* NotAccepted has to be broken: then the model came to the trace's end.   *)
(***************************************************************************)
EXTENDS ledger, TraceData

VARIABLE at  \* the step that comes next

\* What this process appends from here on. Entries are proposed earlier than they are written, and nobody notes when.
Ahead(p) == SelectSeq(SubSeq(Trace, at, Len(Trace)), LAMBDA step : step.a = "append" /\ step.p = p)

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
    LET step == Trace[at]
    IN  /\ at <= Len(Trace)
        /\ at' = at + 1
        /\ \/ step.a = "acquire" /\ (Begin(step.p) \/ Acquire(step.p)) /\ proc'[step.p].ep = step.epoch
           \/ step.a = "append" /\ Write(step.p) /\ Same(store'.log[Len(store'.log)], step)
           \/ step.a = "sync" /\ (Sync \/ disk = store /\ UNCHANGED vars)
           \/ step.a = "user" /\ proc[step.p].mem[step.r].n = step.n /\ RunUser(step.p, step.r)
           \/ step.a = "ack" /\ (Answer(step.p, step.r) \/ step.r = Root /\ Show(step.p))
           \/ step.a = "kill" /\ (Kill(step.p) \/ proc[step.p] = Fresh /\ UNCHANGED vars)
           \/ step.a = "power" /\ Power

\* A replaced process notices it at its next append, of which the trace has nothing. Syncs are not hidden: they are
\* what the waits are for.
Hidden == at' = at /\ \E p \in Procs : Foreseen(p) \/ Refuse(p)

TraceSpec == Init /\ at = 1 /\ [][Step \/ Hidden]_<<vars, at>>

ASSUME TLCSet(1, 0)
\* Always true; says how far the trace was followed.
Followed == IF at > TLCGet(1) THEN TLCSet(1, at) /\ PrintT(<<"followed", at - 1>>) ELSE TRUE

NotAccepted == at <= Len(Trace)
=============================================================================
