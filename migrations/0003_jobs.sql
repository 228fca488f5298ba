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
    since timestamptz,
    until timestamptz,
    last_seq bigint not null,
    -- How many they were.
    n_total bigint not null,
    -- They have been put back up to this number.
    after_seq bigint not null default 0,
    n_moved bigint not null default 0,
    -- Of those, which Segment has taken, and which it refused again (or which expired).
    n_sent bigint not null default 0,
    n_refused bigint not null default 0,
    -- The numbers in the log of those that are on their way; null: none are.
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
