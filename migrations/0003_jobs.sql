-- What is seen of webhooks beside their events.

-- When a source's webhooks were last verified and refused. Written every few seconds for the sources that had any.
create table webhook_activity (
    source_id uuid primary key references source (id) on delete cascade,
    last_verified_at timestamptz,
    last_refused_at timestamptz,
    n_refused bigint not null default 0,
    n_refused_since_verified bigint not null default 0
) with (fillfactor = 50);

-- When a secret last signed a webhook of its source.
create table secret_activity (
    source_id uuid not null references source (id) on delete cascade,
    -- Part of a hash of the secret: enough to tell a source's secrets apart.
    secret_id bigint not null,
    last_verified_at timestamptz not null,
    primary key (source_id, secret_id)
) with (fillfactor = 50);

-- Webhooks that were refused because of their signature: the last few of each source, for a day.
create table refused_webhook (
    id bigint generated always as identity primary key,
    source_id uuid not null references source (id) on delete cascade,
    received_at timestamptz not null,
    -- The headers that sign, or look as if: a JSON list of names and values.
    headers text not null,
    -- The first 2 KB of the body, and how long it was.
    body bytea not null,
    n_body_bytes bigint not null,
    -- What is probably wrong: a name for programs, and words for people.
    fault text not null,
    explanation text not null
);
create index refused_webhook_source_id_idx on refused_webhook (source_id, id);

-- Jobs: asked for once, and done in the background by whichever program has leased them. A lease is void when its time is
-- up; `lease` is the fencing number.

-- Dead letters that are put back into the log, some at a time.
create table replay_job (
    id uuid primary key,
    source_id uuid not null references source (id) on delete cascade,
    asked_by text not null,
    created_at timestamptz not null default now(),
    -- Null: it goes on.
    ended_at timestamptz,
    -- 'running', 'cancelling', 'done' or 'cancelled'.
    state text not null default 'running',
    -- Why nothing is put back at the moment, in words; null: something is.
    waits_for text,
    -- Which dead letters: those that this says, up to the number that was the last one then. Later ones are no part of it.
    kinds smallint[] not null,
    reason text,
    -- Whether their reason is that text, or contains it.
    is_exact_reason boolean not null default false,
    since timestamptz,
    until timestamptz,
    last_seq bigint not null,
    -- How many they were.
    n_total bigint not null,
    -- They have been put back up to this number.
    after_seq bigint not null default 0,
    n_moved bigint not null default 0,
    -- Of those, which Segment has taken, which it refused again (or which expired), which were erased first, and which the
    -- log lacks.
    n_sent bigint not null default 0,
    n_refused bigint not null default 0,
    n_erased bigint not null default 0,
    n_missing bigint not null default 0,
    -- The numbers in the log of those that are on their way; null: none are. A job that was cancelled may have some.
    batch_from bigint,
    batch_to bigint,
    next_step_at timestamptz not null default now(),
    lease bigint not null default 0,
    leased_until timestamptz not null default '-infinity',
    leased_by int not null default 0
);
create index replay_job_source_id_idx on replay_job (source_id, created_at);
-- One at a time.
create unique index replay_job_running_idx on replay_job (source_id) where ended_at is null;
create index replay_job_due_idx on replay_job (next_step_at) where ended_at is null or batch_from is not null;

-- Erased events keep their numbers in the log, so that what is counted still adds up.
alter table delivery
    -- Of the numbers that the cursor has passed, those whose events were erased while they waited.
    add column n_erased bigint not null default 0,
    -- Of the events that had died, those that were erased as dead letters.
    add column n_dead_erased bigint not null default 0;

-- Recipients whose events are erased, source by source. What was removed is counted: the receipt.
create table erase_job (
    id uuid primary key,
    account_id uuid not null references account (id) on delete cascade,
    asked_by text not null,
    created_at timestamptz not null default now(),
    -- Null: it goes on.
    ended_at timestamptz,
    -- Whom: one of the two, until it ends.
    email text,
    uid text,
    -- Whom, so that only who knows it recognises it.
    recipient text not null,
    -- The source that it is at, in the order of their ids, and what it does there (see jobs/erase.rs).
    source_id uuid not null default '00000000-0000-0000-0000-000000000000',
    phase text not null default 'next_source',
    -- How far that is: the log up to this number, and dead letters and what is in quarantine after these.
    log_seq bigint not null default 0,
    after_seq bigint not null default 0,
    after_digest uuid not null default '00000000-0000-0000-0000-000000000000',
    -- The lease that is waited for.
    wait_lease bigint,
    n_sources_done int not null default 0,
    n_events bigint not null default 0,
    n_waiting bigint not null default 0,
    n_dead_letters bigint not null default 0,
    n_quarantined bigint not null default 0,
    n_refused_webhooks bigint not null default 0,
    n_texts bigint not null default 0,
    -- Blocks of the log that cannot be read, and may hold such events.
    n_unreadable_blocks bigint not null default 0,
    next_step_at timestamptz not null default now(),
    lease bigint not null default 0,
    leased_until timestamptz not null default '-infinity',
    leased_by int not null default 0
);
create index erase_job_account_id_idx on erase_job (account_id, created_at);
