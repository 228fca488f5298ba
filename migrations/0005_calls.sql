-- The other direction: calls of Segment's API that go to Nudgespot, and what they tell of users.

alter table source
    -- What becomes of a call about a user whom no `identify` has told of: 'hold', 'ignore' or 'send'. This and what follows
    -- concerns sources of calls alone.
    add column unknown_users text not null default 'hold' check (unknown_users in ('hold', 'ignore', 'send')),
    -- Whether the traits that come with an event are added to its properties.
    add column event_traits boolean not null default true,
    -- The destination at Segment that brings its calls, where it is not one of Segment's own.
    add column carrier text,
    -- Whether its `identify` calls tell the account's other sources who is who.
    add column learn_identities boolean not null default true;

alter table account
    -- Sealed: the key of the hashes in `identity`. Null: the account has had no source of calls yet.
    add column identity_key bytea;

-- Programs keep an account's key with each of its sources.
create function record_identity_key_change() returns trigger language plpgsql as $$
begin
    -- As in record_source_change(). A source that is added at the same time is recorded after this, or is seen here.
    perform pg_advisory_xact_lock(hashtext('source_change'));
    insert into source_change (source_id) select id from source where account_id = new.id;
    return null;
end
$$;

create trigger identity_key_change after update of identity_key on account
    for each row when (old.identity_key is distinct from new.identity_key) execute function record_identity_key_change();

-- Calls that came, by kind.
alter table log_head add column n_identify bigint not null default 0, add column n_track bigint not null default 0;
alter table traffic add column n_identify bigint not null default 0, add column n_track bigint not null default 0;
alter table traffic_mark add column n_identify bigint not null default 0, add column n_track bigint not null default 0;

alter table delivery
    -- The numbers of calls beyond the cursor that are done, while one before them is not: calls of several users are on
    -- their way at a time.
    add column done_ahead bigint[] not null default '{}';

-- Users whom an `identify` of a source has told of, as hashes of their ids. Written by the append that holds the call.
create table identified_user (
    source_id uuid not null,
    user_hash uuid not null,
    primary key (source_id, user_hash)
);

-- Whose an email address is, by the newest `identify` in the account that said one.
create table identity (
    -- No reference: an account may have millions, which a deletion must not meet in one statement.
    account_id uuid not null,
    -- HMAC-SHA256 of the address under the account's key, the first half.
    address_hash uuid not null,
    -- The user's id; bytes, not text: it may hold any character.
    user_id bytea not null,
    user_hash uuid not null,
    primary key (account_id, address_hash)
);
create index identity_user_hash_idx on identity (account_id, user_hash);

-- Calls about users whom no `identify` has told of yet: they follow it into the log, or are ignored after some hours.
create table held_call (
    id bigint generated always as identity,
    source_id uuid not null,
    user_hash uuid not null,
    event_id bytea not null,
    received_at timestamptz not null,
    -- The body of the request to Nudgespot.
    body text not null,
    primary key (source_id, event_id)
);
create index held_call_user_hash_idx on held_call (source_id, user_hash, id);
create index held_call_received_at_idx on held_call (received_at);
-- For those who look at them.
create index held_call_source_id_idx on held_call (source_id, id);

-- Users whom a `delete` told to forget: their calls up to that number, as far as they wait, are not sent any more.
create table forgotten_user (
    source_id uuid not null,
    user_hash uuid not null,
    up_to_seq bigint not null,
    primary key (source_id, user_hash)
);
