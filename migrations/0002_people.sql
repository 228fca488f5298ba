-- Who may use the console and its API, and what was done there.
--
-- Whatever proves who somebody is (passwords, links, sessions, tokens) is kept as a hash: whoever reads the database can
-- use none of it. Passwords with Argon2id; the others are random bytes of 128 bits and more, for which SHA-256 will do.

create table person (
    id uuid primary key,
    -- In lower case.
    email text not null constraint person_email_unique unique,
    -- As a PHC string. Null: invited, and has not chosen a password yet.
    password_hash text,
    -- May see and do everything.
    is_operator boolean not null default false,
    created_at timestamptz not null default now()
);

-- 'viewer': changes nothing.
create type account_role as enum ('viewer', 'admin');

-- Who may see which account. A person who belongs to none, and is no operator, is deleted.
create table membership (
    account_id uuid not null references account (id) on delete cascade,
    person_id uuid not null references person (id) on delete cascade,
    role account_role not null,
    created_at timestamptz not null default now(),
    primary key (account_id, person_id)
);
create index membership_person_id_idx on membership (person_id);

-- Links that let a person choose a password, once: invitations, and a way back in for those who forgot theirs.
create table one_time_link (
    token_hash bytea primary key,
    -- Null: for the first operator, who says his address when he uses it.
    person_id uuid references person (id) on delete cascade,
    -- The account whose admin made it; it counts only for a person who belongs nowhere else, or an admin of one account
    -- could enter another. Null: made by an operator.
    account_id uuid references account (id) on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index one_time_link_person_id_idx on one_time_link (person_id);

create table session (
    id uuid primary key,
    person_id uuid not null references person (id) on delete cascade,
    token_hash bytea not null constraint session_token_hash_unique unique,
    created_at timestamptz not null default now(),
    -- To the minute.
    last_seen_at timestamptz not null default now(),
    -- What is hard to undo asks for the password again some time after it was given last.
    password_given_at timestamptz not null default now(),
    -- Where it was begun.
    address text,
    user_agent text
);
create index session_person_id_idx on session (person_id);

-- Bearer tokens of the API.
create table api_token (
    id uuid primary key,
    -- Null: an operator's, for all accounts.
    account_id uuid references account (id) on delete cascade,
    token_hash bytea not null constraint api_token_token_hash_unique unique,
    name text not null,
    may_write boolean not null,
    created_at timestamptz not null default now(),
    created_by text not null,
    -- To the minute.
    last_used_at timestamptz,
    expires_at timestamptz
);
create index api_token_account_id_idx on api_token (account_id);

-- Who did what, when, and from where. It outlives the people and accounts that it names, so it refers to no other table.
create table audit_entry (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    -- Null: it concerns no single account.
    account_id uuid,
    actor_kind text not null,
    -- An address, a token's name, or `command line`.
    actor_name text not null,
    actor_id uuid,
    address text,
    -- See admin/audit.rs.
    action text not null,
    detail text not null
);
create index audit_entry_account_id_idx on audit_entry (account_id, id);
