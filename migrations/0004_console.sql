-- What the console keeps for itself.

-- Secrets, one-time links and tokens on their way to the page that shows them, once, after a redirect. Sealed (see
-- secrets/vault.rs).
create table shown_once (
    id uuid primary key,
    -- The source or account that it is about; nil: the service.
    about uuid not null,
    -- Who had it made, and nobody else, sees it.
    person_id uuid not null,
    sealed bytea not null,
    expires_at timestamptz not null
);

-- Whether Segment knows a source's write key: it answers 200 to any. Asked when somebody wants to know, and daily.
create table write_key_check (
    source_id uuid primary key references source (id) on delete cascade,
    checked_at timestamptz not null,
    verdict text not null check (verdict in ('known', 'unknown', 'unclear'))
);

-- By which it is known whether an operator's look at an account was recorded within the hour.
create index audit_entry_look_idx on audit_entry (account_id, actor_id, action, at);
