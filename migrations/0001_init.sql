-- Accounts with their sources, the event log, and the state of each source's delivery.
--
-- One row a source in `source` (what an admin sets), in `log_head` and in `delivery` (what the program keeps count of);
-- email events that are to be forwarded are in `event_block`, written once and read in order.
--
-- Tables that are written for each webhook or request have no check constraints: PostgreSQL parses them anew for every
-- statement.

-- Whom people belong to. All that concerns events belongs to its sources.
create table account (
    id uuid primary key,
    name text not null constraint account_name_unique unique,
    created_at timestamptz not null default now()
);

create table source (
    id uuid primary key,
    account_id uuid not null references account (id) on delete cascade,
    -- What sends to it; see sources/mod.rs. No check: a new kind needs no migration.
    kind text not null,
    name text not null,
    -- The capability in the webhook URL. Knowing it is not enough to post: every webhook is signed.
    token text not null constraint source_token_unique unique,
    region text not null check (region in ('us', 'eu')),
    -- A base URL instead of the region's. Set on the command line only.
    endpoint text,
    -- Sealed by the program (see secrets/vault.rs); the database never holds a key or secret in clear.
    write_key bytea,
    -- Null: its sender makes the secret, and the customer has not entered it yet.
    secret bytea,
    -- The secret before the last rotation, which verifies for another while.
    previous_secret bytea,
    previous_secret_until timestamptz,
    unsubscribe_event text not null default 'Email Unsubscribed'
        check (unsubscribe_event in ('Email Unsubscribed', 'Unsubscribed')),
    allow_untimestamped boolean not null default false,
    -- The capability in the status address, which tells anybody whether events flow, and nothing else.
    status_token text not null constraint source_status_token_unique unique,
    -- Since when an admin knows that nothing comes.
    quiet_acknowledged_at timestamptz,
    created_at timestamptz not null default now(),
    constraint source_name_unique unique (account_id, name),
    check ((previous_secret is null) = (previous_secret_until is null))
);

-- Which sources changed, in the order of commit: each running program keeps all sources in memory and reads on from the
-- last version that it saw.
create table source_change (
    version bigint generated always as identity primary key,
    source_id uuid not null,
    changed_at timestamptz not null default now()
);

create function record_source_change() returns trigger language plpgsql as $$
begin
    -- Versions are handed out before commit. The lock makes their order the order of commit, so that a reader who has
    -- seen version 7 has seen 6 as well.
    perform pg_advisory_xact_lock(hashtext('source_change'));
    insert into source_change (source_id) values (coalesce(new.id, old.id));
    return null;
end
$$;

create trigger source_change after insert or update or delete on source
    for each row execute function record_source_change();

-- The log. Within a source, events are numbered from 1 without gaps, in the order of commit (see store/log.rs). Events
-- that were committed together are kept together, compressed, as a block: an event's share of a row, of an index entry and
-- of the write-ahead log is a fraction of what a row of its own would cost.
create table event_block (
    source_id uuid not null,
    -- The number of its last event.
    last_seq bigint not null,
    n_events int not null,
    -- Since when its events wait: the first one's receipt, or its replay.
    since timestamptz not null,
    -- See store/block.rs.
    events bytea not null,
    -- By what its events are searched for, see store/filter.rs.
    filter bytea not null,
    primary key (source_id, last_seq)
);
-- The one comes compressed, of the other nothing repeats.
alter table event_block alter column events set storage external, alter column filter set storage external;

-- Blocks that could not be read, out of the way of those that can: after their events had been delivered, or when an
-- operator gave them up. Their events' ids are not known to anybody, and stay in `known_event`.
create table unreadable_block (
    source_id uuid not null,
    last_seq bigint not null,
    n_events int not null,
    since timestamptz not null,
    events bytea not null,
    found_at timestamptz not null default now(),
    reason text not null,
    primary key (source_id, last_seq)
);

-- The event ids of the log. This is the deduplication. Bytes, not text: a sender may put any character in an id. And the
-- id itself, not a hash of it, and before the source: senders mostly number their events in order, and then new ones, of
-- whatever source, go to the same page of the index.
create table known_event (
    source_id uuid not null,
    -- Its number in the log, that of its last replay where it was sent again.
    seq bigint not null,
    event_id bytea not null,
    constraint known_event_pkey primary key (event_id, source_id)
);

-- One row a source: what it has received. Written on every commit, so half of each page is kept free for updates in
-- place. Apart from `delivery`, so that those who append and those who deliver do not wait for each other.
create table log_head (
    source_id uuid primary key references source (id) on delete cascade,
    -- The number of the log's last event.
    head_seq bigint not null default 0,
    -- Of these numbers, those of events that were in the log before.
    n_replayed bigint not null default 0,
    -- Events that came again, and those that are not forwarded, each of these counted once.
    n_duplicates bigint not null default 0,
    n_ignored bigint not null default 0,
    n_rejected bigint not null default 0,
    -- Events that came, by kind.
    n_email_delivered bigint not null default 0,
    n_opened bigint not null default 0,
    n_clicked bigint not null default 0,
    n_bounced bigint not null default 0,
    n_marked_as_spam bigint not null default 0,
    n_unsubscribed bigint not null default 0
) with (fillfactor = 50);

-- 'log': an event block at the cursor cannot be read.
create type pause_author as enum ('admin', 'segment', 'log');

-- One row a source: what became of it. Written on every request to Segment.
create table delivery (
    source_id uuid primary key references source (id) on delete cascade,
    -- Events after it, up to log_head.head_seq, wait. What it has passed was delivered, has died, or is missing.
    cursor_seq bigint not null default 0,
    n_delivered bigint not null default 0,
    -- Events that have died, also those that were sent again since.
    n_dead bigint not null default 0,
    -- Of these, those whose dead letters were older than the retention.
    n_dead_forgotten bigint not null default 0,
    -- Numbers of the log that the cursor has passed and that had no event any more.
    n_missing bigint not null default 0,
    -- Failed attempts since the last answer that moved the cursor.
    n_attempts int not null default 0,
    -- Events that Segment refused one by one, since it took one, or since an admin changed something.
    n_refused int not null default 0,
    -- '-infinity' while leased. An admin's call sets it to its time, and is not overruled by a step that began before.
    next_attempt_at timestamptz not null default '-infinity',
    -- When the wait until `next_attempt_at` began.
    waiting_since timestamptz not null default '-infinity',
    -- A lease is void when its time is up, or when its holder's session is gone. `lease` is the fencing number.
    lease bigint not null default 0,
    leased_until timestamptz not null default '-infinity',
    leased_by int not null default 0,
    paused_by pause_author,
    paused_reason text,
    paused_at timestamptz,
    -- Why the last attempt failed; null once one has succeeded.
    last_error text
) with (fillfactor = 50);

-- Whether a wait (of `delivery`) is over. No wait is longer than an hour (domain/retry.rs): where it began after now, or
-- ends later than that, the clock was set back meanwhile, and nobody knows how much of it has passed. A minute is no
-- matter: the now() of a statement that waited for another is earlier than that of the other.
create function is_due(next_attempt_at timestamptz, waiting_since timestamptz) returns boolean language sql stable
return next_attempt_at <= now() or waiting_since > now() + interval '1 minute' or next_attempt_at > waiting_since + interval '1 hour';

create sequence lease_holder as int cycle;

-- Processes that deliver and are alive: each has an advisory lock (lock::HOLDER of store/mod.rs, and its number) for as long as
-- its session lasts.
create view lease_owner as
select objid::bigint as number, pid from pg_locks
where locktype = 'advisory' and classid::bigint = 1853030402 and objsubid = 2 and granted
    and database = (select oid from pg_database where datname = current_database());

-- Events that Segment refused, or that grew too old to send. The cursor has passed them.
create table dead_letter (
    source_id uuid not null,
    seq bigint not null,
    kind smallint not null,
    event_id bytea not null,
    received_at timestamptz not null,
    -- The part of the track call that differs from event to event, a JSON object. Not jsonb, which refuses \u0000.
    track text not null,
    reason text not null,
    dead_at timestamptz not null default now(),
    primary key (source_id, seq)
);
create index dead_letter_dead_at_idx on dead_letter using brin (dead_at);
create index dead_letter_event_id_idx on dead_letter (source_id, event_id);

-- Dead letters that were put back into the log: their events are at both numbers, and what became of them is at the last.
create table replay (
    source_id uuid not null,
    from_seq bigint not null,
    to_seq bigint not null,
    -- Why and when it had died.
    reason text not null,
    dead_at timestamptz not null,
    replayed_at timestamptz not null default now(),
    primary key (source_id, from_seq)
);
create index replay_to_seq_idx on replay (source_id, to_seq);
create index replay_replayed_at_idx on replay using brin (replayed_at);

create type attempt_outcome as enum ('delivered', 'retry', 'refused', 'paused');

-- Requests made to Segment or Nudgespot: one row each, or one for several that went well one after the other.
create table attempt (
    id bigint generated always as identity primary key,
    source_id uuid not null,
    from_seq bigint not null,
    to_seq bigint not null,
    n_events int not null,
    n_requests int not null,
    -- Of several requests, when the last began, and how long the slowest took.
    started_at timestamptz not null,
    duration_ms int not null,
    -- Null: no answer.
    status smallint,
    outcome attempt_outcome not null,
    reason text
);
-- By the events that they were about; the newest are the last of these.
create index attempt_source_id_idx on attempt (source_id, to_seq, id);

-- Events that are not forwarded, as they came: of a kind that has no Segment event (ignored), or unusable (rejected).
create table quarantine (
    source_id uuid not null,
    -- A hash of the payload: a webhook that is sent again sets nothing aside twice.
    digest uuid not null,
    disposition text not null check (disposition in ('ignored', 'rejected')),
    received_at timestamptz not null,
    event_name text,
    reason text,
    payload text not null,
    primary key (source_id, digest)
);
create index quarantine_received_at_idx on quarantine using brin (received_at);
create index quarantine_source_id_idx on quarantine (source_id, disposition, received_at, digest);

-- What came and what became of it, counted: minutes for a day, hours for a month, so that no chart reads the log.
create type traffic_step as enum ('minute', 'hour');

create table traffic (
    source_id uuid not null references source (id) on delete cascade,
    step traffic_step not null,
    starts_at timestamptz not null,
    n_accepted bigint not null,
    n_duplicates bigint not null,
    n_ignored bigint not null,
    n_rejected bigint not null,
    n_delivered bigint not null,
    n_dead bigint not null,
    n_email_delivered bigint not null,
    n_opened bigint not null,
    n_clicked bigint not null,
    n_bounced bigint not null,
    n_marked_as_spam bigint not null,
    n_unsubscribed bigint not null,
    primary key (source_id, step, starts_at)
) with (fillfactor = 50);

-- One row a source: how far the counts of `log_head` and `delivery` are in `traffic` (see store/traffic.rs).
create table traffic_mark (
    source_id uuid primary key references source (id) on delete cascade,
    rolled_at timestamptz not null default now(),
    -- Of those that follow, but for the kinds.
    total bigint not null default 0,
    n_accepted bigint not null default 0,
    n_duplicates bigint not null default 0,
    n_ignored bigint not null default 0,
    n_rejected bigint not null default 0,
    n_delivered bigint not null default 0,
    n_dead bigint not null default 0,
    n_email_delivered bigint not null default 0,
    n_opened bigint not null default 0,
    n_clicked bigint not null default 0,
    n_bounced bigint not null default 0,
    n_marked_as_spam bigint not null default 0,
    n_unsubscribed bigint not null default 0
) with (fillfactor = 50);
