-- The whole job of `journeys replay` as DuckDB SQL, written for speed; {file} and {out} are filled in by peer_duckdb.py.
-- Each statement is a stage, named by the comment before it. What is given away to DuckDB: no dead letters, ledger,
-- recovery or partition folders, 64-bit hashes in place of 128-bit hex ids, page, referrer and campaign not looked for.
-- Sorting narrow rows once, then windows OVER () that stream over them, was faster than PARTITION BY at every level.

-- load
CREATE TABLE raw AS
SELECT messageId AS event_id, timestamp AS event_time, anonymousId AS device_id, userId AS user_id, channel,
       type AS event_type, coalesce(event, name) AS event_name, properties
FROM read_json('{file}', format = 'newline_delimited', columns = {{
    messageId: 'VARCHAR', type: 'VARCHAR', event: 'VARCHAR', name: 'VARCHAR', anonymousId: 'VARCHAR',
    userId: 'VARCHAR', timestamp: 'TIMESTAMPTZ', channel: 'VARCHAR', properties: 'JSON'}});

-- names
CREATE TYPE step AS ENUM (SELECT DISTINCT event_name FROM raw WHERE event_name IS NOT NULL ORDER BY 1);
CREATE TYPE channel AS ENUM (SELECT DISTINCT channel FROM raw WHERE channel IS NOT NULL ORDER BY 1);

-- late: the watermark is taken row by row in file order, a minute behind the largest time so far
CREATE TABLE late AS
SELECT r
FROM (SELECT rowid AS r, epoch_us(event_time) AS t,
             max(epoch_us(event_time)) OVER (ROWS UNBOUNDED PRECEDING) AS newest FROM raw)
WHERE t < newest - 60_000_000;

-- sort
CREATE TABLE sorted AS
SELECT hash(coalesce(user_id, device_id)) AS person, epoch_us(event_time) AS t, raw.rowid AS r,
       hash(event_id) AS id, event_name::step AS step, channel::channel AS channel
FROM raw ANTI JOIN late ON raw.rowid = late.r
WHERE event_time IS NOT NULL AND event_name IS NOT NULL AND coalesce(user_id, device_id) IS NOT NULL
ORDER BY person, t, r;

-- duplicates: only events that share person and time with a neighbour can be
CREATE TABLE duplicate AS
SELECT r
FROM (SELECT person, t, id, r, lag(person) OVER () AS p0, lag(t) OVER () AS t0,
             lead(person) OVER () AS p1, lead(t) OVER () AS t1 FROM sorted)
WHERE (person = p0 AND t = t0) OR (person = p1 AND t = t1)
QUALIFY row_number() OVER (PARTITION BY person, t, id ORDER BY r) > 1;

-- sessionize: s is the position of the session's first event
CREATE TABLE accepted AS
SELECT person, t, r, step, channel FROM sorted ANTI JOIN duplicate USING (r) ORDER BY sorted.rowid;
CREATE TABLE ordered AS
WITH linked AS (
    SELECT *, rowid AS pos, lag(person) OVER () AS person0, lag(t) OVER () AS t0, lag(step) OVER () AS step0,
           lag(channel) OVER () AS channel0
    FROM accepted),
opened AS (
    SELECT * EXCLUDE person0, person0 IS DISTINCT FROM person OR t - t0 > 1_800_000_000 AS opens FROM linked)
SELECT *, max(pos) FILTER (opens) OVER (ROWS UNBOUNDED PRECEDING) AS s,
       last_value(CASE WHEN opens THEN t END IGNORE NULLS) OVER (ROWS UNBOUNDED PRECEDING) AS started
FROM opened;

-- events
SET preserve_insertion_order = false;
COPY (
    SELECT event_id, event_time, NULL::TIMESTAMPTZ AS received_at, coalesce(user_id, device_id) AS person_id, device_id,
           user_id, channel, event_type, event_name, event_name AS step, NULL::VARCHAR AS page,
           NULL::VARCHAR AS referrer, NULL::VARCHAR AS campaign, properties::VARCHAR AS properties,
           'events' AS source, 'lane-000' AS source_partition, r AS source_position, session_id, session_index,
           make_timestamp(epoch_us(event_time))::DATE AS dt
    FROM raw
    JOIN (SELECT r, hash(person, started) AS session_id, (pos - s)::INTEGER AS session_index FROM ordered)
      ON raw.rowid = r)
TO '{out}/events.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 100);

-- sessions: lists of (position, code) as whole numbers sort faster than list(step ORDER BY pos)
CREATE TABLE folded AS
SELECT s, any_value(person) AS person, any_value(started) AS started, max(t) AS ended, count(*) AS events,
       max(r) FILTER (opens) AS r,
       list_sort(list((pos - s) * 65536 + enum_code(step)) FILTER (opens OR step <> step0)) AS steps,
       list_sort(list((pos - s) * 65536 + enum_code(channel)) FILTER (opens OR channel <> channel0)) AS channels
FROM ordered GROUP BY s;
CREATE TABLE sessions AS
WITH named AS (
    SELECT * REPLACE (list_transform(steps, LAMBDA x: enum_range(NULL::step)[x % 65536 + 1]) AS steps,
                      list_transform(channels, LAMBDA x: enum_range(NULL::channel)[x % 65536 + 1]) AS channels)
    FROM folded)
SELECT s, hash(person, started) AS session_id, coalesce(user_id, device_id) AS person_id, device_id, user_id,
       CASE WHEN len(channels) < 3 THEN channels
            ELSE list_filter(channels, LAMBDA x, i: list_position(channels, x) = i) END AS channels,
       channels[1] AS entry_channel, channels[-1] AS exit_channel, started, ended, (ended - started) / 1e6 AS duration_s,
       events, steps[1] AS entry_step, steps[-1] AS exit_step, steps[1:50] AS steps, len(steps) > 50 AS path_cut,
       make_timestamp(started)::DATE AS dt
FROM named JOIN raw ON raw.rowid = named.r;
UPDATE sessions SET device_id = known.device_id
FROM (SELECT ordered.s, arg_min(raw.device_id, pos) AS device_id
      FROM ordered SEMI JOIN (SELECT s FROM sessions WHERE device_id IS NULL) AS blank USING (s)
      JOIN raw ON raw.rowid = ordered.r WHERE raw.device_id IS NOT NULL GROUP BY ordered.s) AS known
WHERE sessions.s = known.s;
COPY (
    SELECT session_id, person_id, device_id, user_id, channels, entry_channel, make_timestamptz(started) AS started_at,
           make_timestamptz(ended) AS ended_at, duration_s, events, entry_step, exit_step, steps, path_cut, dt
    FROM sessions)
TO '{out}/sessions.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 2000);

-- transitions
COPY (
    WITH moves AS (
        SELECT t // 3_600_000_000 AS hour, channel, step0, step, count(*) AS n, sum(t - t0) AS us,
               CASE WHEN t = t0 THEN -1000 ELSE floor(8 * log2((t - t0) / 1e6)) END::INTEGER AS bucket
        FROM ordered WHERE NOT opens GROUP BY ALL),
    entries AS (
        SELECT t // 3_600_000_000 AS hour, channel, step, count(*) AS n FROM ordered WHERE opens GROUP BY ALL),
    kinds AS (
        SELECT hour, channel::VARCHAR AS channel, step0::VARCHAR AS from_step, step::VARCHAR AS to_step, bucket, n, us
        FROM moves
        UNION ALL
        SELECT hour, channel::VARCHAR, '(start)', step::VARCHAR, NULL, n, 0 FROM entries
        UNION ALL
        SELECT ended // 3_600_000_000, exit_channel, exit_step, '(end)', NULL, count(*), 0 FROM sessions GROUP BY ALL)
    SELECT make_timestamptz(any_value(hour) * 3_600_000_000) AS hour, channel, from_step, to_step,
           sum(n)::BIGINT AS transitions, sum(us) / 1e6 AS total_seconds,
           coalesce(list({{bucket: bucket, n: n}}) FILTER (bucket IS NOT NULL), []) AS seconds_histogram,
           make_timestamp(any_value(hour) * 3_600_000_000)::DATE AS dt
    FROM kinds GROUP BY kinds.hour, channel, from_step, to_step)
TO '{out}/transitions.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);

-- paths
COPY (
    SELECT steps, hash(steps) AS path_hash, count(*) AS sessions, sum(events)::BIGINT AS events,
           sum(duration_s) AS total_seconds, dt
    FROM sessions GROUP BY dt, steps)
TO '{out}/paths.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);

-- funnel: level by level, the newest chain of the level before; of equal times only the last one can be taken over
SET preserve_insertion_order = true;
CREATE TABLE level0 AS
SELECT person, t, pos, t AS entered, r AS entry, s, channel,
       coalesce(lead(person) OVER () = person AND lead(t) OVER () = t, false) AS hidden
FROM ordered WHERE step = 'Product Viewed';
CREATE MACRO extend(chains, name) AS TABLE
SELECT reach.person, reach.t, reach.pos, chain.entered, chain.entry, chain.s, reach.channel
FROM (SELECT person, t, pos, channel FROM ordered WHERE step = name) AS reach
ASOF JOIN (SELECT * FROM query_table(chains)
           QUALIFY row_number() OVER (PARTITION BY person, t ORDER BY pos DESC) = 1) AS chain
  ON reach.person = chain.person AND reach.t >= chain.t
WHERE reach.t <= chain.entered + 7 * 86_400_000_000;
CREATE TABLE visible AS SELECT * EXCLUDE hidden FROM level0 WHERE NOT hidden;
CREATE TABLE level1 AS FROM extend('visible', 'Product Added');
CREATE TABLE level2 AS FROM extend('level1', 'Checkout Started');
CREATE TABLE level3 AS FROM extend('level2', 'Payment Info Entered');
CREATE TABLE level4 AS FROM extend('level3', 'Order Completed');
CREATE MACRO take_first(chains) AS TABLE
SELECT entry, any_value(person) AS person, any_value(s) AS s, any_value(entered) AS entered, min(t) AS t,
       arg_min(channel, pos) AS channel
FROM query_table(chains) GROUP BY entry;
CREATE TABLE reached1 AS FROM take_first('level1');
CREATE TABLE reached2 AS FROM take_first('level2');
CREATE TABLE reached3 AS FROM take_first('level3');
CREATE TABLE reached4 AS FROM take_first('level4');
COPY (
    WITH reached AS (
        SELECT 0 AS i, person, s, entered, entry, t, t AS before, channel FROM level0
        UNION ALL SELECT 1, b.person, b.s, b.entered, entry, b.t, b.entered, b.channel FROM reached1 b
        UNION ALL SELECT 2, b.person, b.s, b.entered, entry, b.t, a.t, b.channel FROM reached2 b JOIN reached1 a USING (entry)
        UNION ALL SELECT 3, b.person, b.s, b.entered, entry, b.t, a.t, b.channel FROM reached3 b JOIN reached2 a USING (entry)
        UNION ALL SELECT 4, b.person, b.s, b.entered, entry, b.t, a.t, b.channel FROM reached4 b JOIN reached3 a USING (entry))
    SELECT 'purchase' AS funnel, hash(person, entered, entry) AS attempt_id, person_id, i AS step_index,
           ['Product Viewed', 'Product Added', 'Checkout Started', 'Payment Info Entered', 'Order Completed'][i + 1] AS step,
           make_timestamptz(entered) AS entered_at, make_timestamptz(t) AS reached_at,
           (t - entered) / 1e6 AS seconds_from_entry, (t - before) / 1e6 AS seconds_from_previous, channel,
           make_timestamp(t)::DATE AS dt
    FROM reached JOIN (SELECT s, person_id FROM sessions) USING (s))
TO '{out}/funnel_steps.parquet'
    (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 2000);
