------------------------------- MODULE ledger -------------------------------
(***************************************************************************)
(* The log, its leases and its crashes, for one tree of runs: a root and   *)
(* the calls that its body makes. Several processes want to carry it out;  *)
(* any of them may be killed, replaced while it lives, or forked, and the  *)
(* power may go.                                                           *)
(*                                                                         *)
(* The invariants are named after the promises of invariants.md, by        *)
(* number. A state model has no word for promises 6, 8 and 9: that rules   *)
(* judge alike again, that hashes chain, and that reading runs no code.    *)
(* ledger.md has the bounds, the mutants and what is left out.             *)
(*                                                                         *)
(* Every switch is TRUE in the library at level `effect`. A mutant has one *)
(* of them off, and has to break the invariant that ledger.md says.        *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    Procs,           \* places for processes; a killed one comes back as another
    Children,        \* how many calls the root's body may make
    MaxRecords,      \* of the log, queues included
    MaxAttempts,     \* of each run
    MaxTerm,         \* the highest epoch
    MaxFaults,       \* kills and power losses together
    MaxQueue,        \* what a process may append ahead of the log
    Used             \* states that processes propose: all, or fewer where other things are looked at

CONSTANTS
    Fenced,          \* an append of a lower epoch than the tree has seen is refused
    VersionChecked,  \* an append that expects another version is refused
    ViewsTogether,   \* views are written in the transaction of the records
    StartAwaited,    \* a body begins when its Running is durable: level effect
    AnswerAwaited,   \* an outcome is shown when it is durable: levels effect and result
    RootAwaited,     \* the same for the root's outcome: every level
    FoundAwaited,    \* an outcome that was found in the log is shown when it is durable
    LeaseAwaited,    \* nothing is done under a lease before it is durable
    Synced,          \* who waits, waits for the disk, and not only until others can see it
    DiskKeeps,       \* what was synced is there after the power was lost
    DoubtSaid,       \* a new owner says of a Running without an end that it is in doubt
    AttemptsEnded,   \* an attempt is ended on record before the next one begins
    ForkDropsQueue,  \* a forked child does not write what its parent had queued
    ForkDropsOwner   \* a forked child does not write under its parent's lease

\* BEGIN ROWS, from transitions.md; the tests compare them, and write them anew with --rewrite
Rows == {
    <<"nothing", "Pending">>,
    <<"Pending", "Running">>,
    <<"Pending", "Cached">>,
    <<"Pending", "Failed">>,
    <<"Running", "Completed">>,
    <<"Running", "Failed">>,
    <<"Running", "TimedOut">>,
    <<"Running", "Retrying">>,
    <<"Running", "Looped">>,
    <<"Retrying", "Running">>,
    <<"Retrying", "Failed">>,
    <<"Looped", "Running">>,
    <<"Looped", "Failed">>
}
Final == {"Cached", "Completed", "Failed", "TimedOut"}
\* END ROWS

Legal(a, b) == <<a, b>> \in Rows
States == {row[2] : row \in Rows}

Root == 0
Runs == 0..Children
Doubts == {"interrupted", "in_doubt", "given"}  \* why a new owner moves a run that it found Running

(* A record: seq counts the run's records, n how often it was begun, why says who ended an attempt:                  *)
(* "body", or a word of Doubts; else "". `by` is the process that wrote it: nobody in the library can see it.        *)

VARIABLES
    store,    \* what can be seen: the log; its views, a head for each run; the term; who owned each term so far
    disk,     \* what of it was synced
    proc,     \* each process: its epoch (0: no lease), the runs as it believes they are, its queue, bodies under way
    effects,  \* bodies that were begun; no crash undoes them
    acked,    \* outcomes that somebody outside was shown
    faults
vars == <<store, disk, proc, effects, acked, faults>>

Unborn == [seq |-> 0, st |-> "nothing", n |-> 0, ep |-> 0]
Fresh == [ep |-> 0, mem |-> [r \in Runs |-> Unborn], queue |-> <<>>, body |-> {}]
Empty == [log |-> <<>>, head |-> [r \in Runs |-> Unborn], term |-> 0, owner |-> <<>>]

Init ==
    /\ store = Empty
    /\ disk = Empty
    /\ proc = [p \in Procs |-> Fresh]
    /\ effects = {}
    /\ acked = {}
    /\ faults = 0

Of(log, r) == SelectSeq(log, LAMBDA rec : rec.run = r)
HeadOf(rec) == [seq |-> rec.seq, st |-> rec.st, n |-> rec.n, ep |-> rec.ep]
Fold(log, r) == LET own == Of(log, r) IN IF own = <<>> THEN Unborn ELSE HeadOf(own[Len(own)])
In(log, r, h) == \E i \in DOMAIN log : log[i].run = r /\ HeadOf(log[i]) = h

\* What a ticket, or whoever else waits for the disk, waits for.
Durable(r, h) == IF Synced THEN In(disk.log, r, h) ELSE In(store.log, r, h)

-----------------------------------------------------------------------------
(* Leases. *)

\* Nothing of the run is seen: its birth will bring its first term, unless another process bears it before.
Begin(p) ==
    /\ proc[p] = Fresh
    /\ store.head[Root].seq = 0
    /\ proc' = [proc EXCEPT ![p].ep = 1]
    /\ UNCHANGED <<store, disk, effects, acked, faults>>

\* Also from an owner that lives: clocks may be wrong about that, and the old owner has to do no harm.
Acquire(p) ==
    /\ proc[p].ep = 0 /\ proc[p].queue = <<>>
    /\ store.head[Root].seq > 0
    /\ store.head[Root].st \notin Final
    /\ store.term < MaxTerm
    /\ store' = [store EXCEPT !.term = @ + 1, !.owner = Append(@, p)]
    /\ proc' = [proc EXCEPT ![p] = [Fresh EXCEPT !.ep = store.term + 1, !.mem = store.head]]
    /\ UNCHANGED <<disk, effects, acked, faults>>

-----------------------------------------------------------------------------
(* What a process may propose, as it believes its runs to be. *)

Moves(p, r) ==
    LET me == proc[p]
        m == me.mem[r]
        rows == {row[2] : row \in {row \in Rows : row[1] = m.st}}
        called == r = Root \/ Root \in me.body
        all ==
            IF me.ep = 0 THEN {}
            ELSE IF m.st # "Running" THEN
                IF called THEN {<<st, "">> : st \in rows} ELSE {}
            ELSE IF r \in me.body THEN
                IF r # Root \/ me.body = {Root} THEN {<<st, "body">> : st \in rows} ELSE {}
            ELSE IF ~called THEN {}
            ELSE IF m.ep = me.ep THEN {<<"Failed", "body">>}  \* cut off before its body began
            ELSE
                {<<"Retrying", "interrupted">>, <<"Failed", "in_doubt">>, <<"Completed", "given">>}
                \cup (IF DoubtSaid THEN {} ELSE {<<"Completed", "body">>})
                \cup (IF AttemptsEnded THEN {} ELSE {<<"Running", "">>})
    IN  {move \in all : move[1] \in Used}

\* Settled, and appended ahead of durability.
Propose(p, r, move) ==
    LET me == proc[p]
        m == me.mem[r]
        st == move[1]
        why == move[2]
        rec == [run |-> r, seq |-> m.seq + 1, ep |-> me.ep, st |-> st,
                n |-> IF st = "Running" THEN m.n + 1 ELSE m.n, why |-> why, by |-> p]
    IN  /\ me.ep > 0
        /\ rec.n <= MaxAttempts
        /\ Len(me.queue) < MaxQueue
        /\ Len(store.log) + Len(me.queue) < MaxRecords
        /\ proc' = [proc EXCEPT ![p].queue = Append(@, rec),
                                ![p].mem[r] = HeadOf(rec),
                                ![p].body = @ \ {r}]
        /\ UNCHANGED <<store, disk, effects, acked, faults>>

-----------------------------------------------------------------------------
(* The writer. One append at a time: what is written in one transaction in the library can only be lost with less. *)

Accepted(rec) ==
    /\ Fenced => rec.ep >= store.term
    /\ VersionChecked => store.head[rec.run].seq = rec.seq - 1

Write(p) ==
    LET rec == [Head(proc[p].queue) EXCEPT !.by = p]
    IN  /\ proc[p].queue # <<>>
        /\ Accepted(rec)
        /\ store' = [store EXCEPT
               !.log = Append(@, rec),
               !.head = IF ViewsTogether THEN [@ EXCEPT ![rec.run] = HeadOf(rec)] ELSE @,
               !.owner = IF store.term = 0 THEN <<p>> ELSE @,
               !.term = IF @ = 0 THEN 1 ELSE @]
        /\ proc' = [proc EXCEPT ![p].queue = Tail(@)]
        /\ UNCHANGED <<disk, effects, acked, faults>>

\* What follows a refused append builds on it. The process drops the tree; its bodies may still be running.
Refuse(p) ==
    /\ proc[p].queue # <<>>
    /\ ~Accepted(Head(proc[p].queue))
    /\ proc' = [proc EXCEPT ![p] = Fresh]
    /\ UNCHANGED <<store, disk, effects, acked, faults>>

\* At any time; a commit returns after its own.
Sync ==
    /\ disk # store
    /\ disk' = store
    /\ UNCHANGED <<store, proc, effects, acked, faults>>

-----------------------------------------------------------------------------
(* The world outside. *)

RunUser(p, r) ==
    LET me == proc[p]
        m == me.mem[r]
    IN  /\ me.ep > 0
        /\ m.st = "Running" /\ m.ep = me.ep /\ r \notin me.body
        /\ r = Root \/ Root \in me.body
        /\ StartAwaited => Durable(r, m)
        /\ LeaseAwaited => Len(disk.owner) >= me.ep /\ disk.owner[me.ep] = p
        /\ effects' = effects \cup {[run |-> r, n |-> m.n, ep |-> me.ep, by |-> p,
               k |-> 1 + Cardinality({e \in effects : e.run = r /\ e.n = m.n})]}
        /\ proc' = [proc EXCEPT ![p].body = @ \cup {r}]
        /\ UNCHANGED <<store, disk, acked, faults>>

\* The process that recorded the outcome shows it.
Answer(p, r) ==
    LET m == proc[p].mem[r]
    IN  /\ proc[p].ep > 0
        /\ m.st \in Final /\ m.ep = proc[p].ep
        /\ (IF r = Root THEN RootAwaited ELSE AnswerAwaited) => Durable(r, m)
        /\ acked' = acked \cup {[run |-> r, head |-> m]}
        /\ UNCHANGED <<store, disk, proc, effects, faults>>

\* A process shows what it found: the root's outcome, without a lease; with one, also those of earlier owners.
Show(p, r) ==
    LET me == proc[p]
        h == IF me.ep = 0 THEN store.head[r] ELSE me.mem[r]
    IN  /\ IF me.ep = 0 THEN me = Fresh /\ r = Root ELSE h.ep # me.ep
        /\ h.st \in Final
        /\ FoundAwaited => Durable(r, h)
        /\ acked' = acked \cup {[run |-> r, head |-> h]}
        /\ UNCHANGED <<store, disk, proc, effects, faults>>

-----------------------------------------------------------------------------
(* Faults. *)

Kill(p) ==
    /\ faults < MaxFaults
    /\ proc[p] # Fresh
    /\ faults' = faults + 1
    /\ proc' = [proc EXCEPT ![p] = Fresh]
    /\ UNCHANGED <<store, disk, effects, acked>>

Shorter(s) ==
    LET log == SubSeq(s.log, 1, Len(s.log) - 1)
    IN  [s EXCEPT !.log = log, !.head = [r \in Runs |-> Fold(log, r)]]

Power ==
    /\ faults < MaxFaults
    /\ faults' = faults + 1
    /\ store' = IF DiskKeeps \/ disk.log = <<>> THEN disk ELSE Shorter(disk)
    /\ disk' = store'
    /\ proc' = [p \in Procs |-> Fresh]
    /\ UNCHANGED <<effects, acked>>

\* The child has the memory of its parent, and may do nothing with it: as long as both switches are on, it is a
\* process like any other that knows nothing, and this changes nothing.
Fork(p, c) ==
    /\ p # c /\ proc[c] = Fresh
    /\ proc' = [proc EXCEPT ![c] = [
           ep |-> IF ForkDropsOwner THEN 0 ELSE proc[p].ep,
           mem |-> IF ForkDropsOwner THEN Fresh.mem ELSE proc[p].mem,
           queue |-> IF ForkDropsQueue THEN <<>> ELSE proc[p].queue,
           body |-> IF ForkDropsOwner THEN {} ELSE proc[p].body]]
    /\ UNCHANGED <<store, disk, effects, acked, faults>>

-----------------------------------------------------------------------------

Next ==
    \/ Sync
    \/ Power
    \/ \E p \in Procs :
        \/ Begin(p) \/ Acquire(p) \/ Write(p) \/ Refuse(p) \/ Kill(p)
        \/ \E c \in Procs : Fork(p, c)
        \/ \E r \in Runs :
            \/ RunUser(p, r) \/ Answer(p, r) \/ Show(p, r)
            \/ \E move \in Moves(p, r) : Propose(p, r, move)

Spec == Init /\ [][Next]_vars

Symmetry == Permutations(Procs)

-----------------------------------------------------------------------------
(* The promises. Those about the log hold for what can be seen, and so, at every sync, for what is durable. *)

\* The first record of a run is Pending, seq has no gaps, final is final, only rows are recorded.
P1_LegalHistory ==
    \A r \in Runs : LET own == Of(store.log, r) IN
        \A i \in DOMAIN own :
            /\ own[i].seq = i
            /\ Legal(IF i = 1 THEN "nothing" ELSE own[i - 1].st, own[i].st)

\* Whatever was shown is on the disk, the very record.
P2_AckedIsDurable == \A a \in acked : In(disk.log, a.run, a.head)
\* What level lazy leaves of it.
P2_RootAnswerIsDurable == \A a \in acked : a.run = Root => In(disk.log, a.run, a.head)
\* And what is on the disk stays.
P2_DurableStays ==
    [][Len(disk.log) <= Len(disk'.log) /\ SubSeq(disk'.log, 1, Len(disk.log)) = disk.log]_vars

\* No code ran unrecorded: level effect.
P3_EffectHasIntent ==
    \A e \in effects : \E i \in DOMAIN disk.log : LET rec == disk.log[i] IN
        rec.run = e.run /\ rec.st = "Running" /\ rec.n = e.n /\ rec.ep = e.ep
\* No attempt was made twice: level effect.
P3_OneEffectPerAttempt == \A e \in effects : e.k = 1
\* One start for each attempt, and one end for each run.
P3_RecordedOnce ==
    \A r \in Runs : LET own == Of(store.log, r) IN
        /\ Cardinality({i \in DOMAIN own : own[i].st \in Final}) <= 1
        /\ \A i, j \in DOMAIN own : own[i].st = "Running" /\ own[j].st = "Running" /\ own[i].n = own[j].n => i = j
\* Only who began an attempt may say what became of it; another owner says that it was in doubt.
P3_DoubtIsSaid ==
    \A r \in Runs : LET own == Of(store.log, r) IN
        \A i \in DOMAIN own : i > 1 /\ own[i - 1].st = "Running" /\ own[i - 1].ep # own[i].ep => own[i].why \in Doubts

\* Between two attempts there is an entry that says how the first one ended.
P4_EveryAttemptHasItsEnd ==
    \A r \in Runs : LET own == Of(store.log, r) IN
        \A i \in DOMAIN own : i > 1 /\ own[i].st = "Running" => own[i - 1].st # "Running"

\* At every position: the head that every check reads says what the log says.
P5_ViewsAreTheFold == \A s \in {store, disk} : \A r \in Runs : s.head[r] = Fold(s.log, r)

\* Within the tree, in the order of the log, epochs never fall.
P7_EpochsMonotone ==
    \A i \in DOMAIN store.log : i > 1 => store.log[i - 1].ep <= store.log[i].ep
\* Every record was written by the process that had taken its epoch.
P7_WrittenByTheOwner ==
    \A i \in DOMAIN store.log : LET rec == store.log[i] IN
        rec.ep <= Len(store.owner) /\ store.owner[rec.ep] = rec.by
\* No two processes did anything in the same epoch, whatever was lost between them.
P7_OneOwnerPerEpoch == \A e, f \in effects : e.ep = f.ep => e.by = f.by
=============================================================================
