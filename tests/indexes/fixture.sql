-- Index situations, each with what must be said of it: usage; cover; validity. The comment on every index
-- and foreign key is the expectation that tests/indexes.rs compares with. None of them is ever scanned,
-- unless the comment says `used`. Blocks that begin with `-- since N` are for that major and later.

-- Constraints and their twins.
CREATE TABLE keys (id int, code text, other int, name text);
ALTER TABLE keys ADD CONSTRAINT keys_pkey PRIMARY KEY (id);
COMMENT ON INDEX keys_pkey IS 'primary';
ALTER TABLE keys ADD CONSTRAINT keys_id_key UNIQUE (id);
COMMENT ON INDEX keys_id_key IS 'unique; duplicate of keys_pkey';
CREATE INDEX keys_id_plain ON keys (id);
COMMENT ON INDEX keys_id_plain IS 'unused; twin of keys_pkey';
ALTER TABLE keys ADD CONSTRAINT a_constraint_on_code UNIQUE (code);
COMMENT ON INDEX a_constraint_on_code IS 'unique';
CREATE UNIQUE INDEX code_u ON keys (code);
COMMENT ON INDEX code_u IS 'unique; duplicate of a_constraint_on_code';
CREATE INDEX code_p ON keys (code);
COMMENT ON INDEX code_p IS 'unused; twin of a_constraint_on_code';
CREATE UNIQUE INDEX keys_code_other ON keys (code, other);
COMMENT ON INDEX keys_code_other IS 'unique';
CREATE INDEX keys_other ON keys (other);
CREATE INDEX keys_other_code ON keys (other, code);
COMMENT ON INDEX keys_other_code IS 'unused';
COMMENT ON INDEX keys_other IS 'unused; prefix of keys_other_code';
ALTER TABLE keys ADD CONSTRAINT keys_name_later UNIQUE (name) DEFERRABLE;
COMMENT ON INDEX keys_name_later IS 'unique';
CREATE UNIQUE INDEX keys_name_now ON keys (name);
COMMENT ON INDEX keys_name_now IS 'unique';

-- Plain duplicates and prefixes: the shorter name stays, dump and restore change nothing about it.
CREATE TABLE plain (a int, b int, c int, d int);
CREATE INDEX plain_d_second ON plain (d);
CREATE INDEX plain_d ON plain (d);
CREATE INDEX plain_d_third ON plain (d) WITH (fillfactor = 70);
COMMENT ON INDEX plain_d_second IS 'unused; duplicate of plain_d';
COMMENT ON INDEX plain_d IS 'unused';
COMMENT ON INDEX plain_d_third IS 'unused; duplicate of plain_d';
CREATE INDEX plain_a ON plain (a);
CREATE INDEX plain_a_b ON plain (a, b);
CREATE INDEX plain_a_b_c ON plain (a, b, c);
COMMENT ON INDEX plain_a IS 'unused; prefix of plain_a_b_c';
COMMENT ON INDEX plain_a_b IS 'unused; prefix of plain_a_b_c';
COMMENT ON INDEX plain_a_b_c IS 'unused';
CREATE INDEX plain_b_a ON plain (b, a);
COMMENT ON INDEX plain_b_a IS 'unused';
CREATE INDEX plain_c_clustered ON plain (c);
CREATE INDEX plain_c ON plain (c);
ALTER TABLE plain CLUSTER ON plain_c_clustered;
COMMENT ON INDEX plain_c_clustered IS 'unused';
COMMENT ON INDEX plain_c IS 'unused; duplicate of plain_c_clustered';

-- Order.
CREATE TABLE orders (a int, b int, c int, d int, e int);
CREATE INDEX orders_a ON orders (a);
CREATE INDEX orders_a_desc ON orders (a DESC);
COMMENT ON INDEX orders_a IS 'unused';
COMMENT ON INDEX orders_a_desc IS 'unused; twin of orders_a';
CREATE INDEX orders_b_c ON orders (b, c);
CREATE INDEX orders_b_c_desc ON orders (b, c DESC);
CREATE INDEX orders_b_desc_c ON orders (b DESC, c);
COMMENT ON INDEX orders_b_c IS 'unused';
COMMENT ON INDEX orders_b_c_desc IS 'unused';
COMMENT ON INDEX orders_b_desc_c IS 'unused; twin of orders_b_c_desc';
CREATE INDEX orders_d ON orders (d);
CREATE INDEX orders_d_first ON orders (d NULLS FIRST);
CREATE INDEX orders_d_last ON orders (d DESC NULLS LAST);
COMMENT ON INDEX orders_d IS 'unused';
COMMENT ON INDEX orders_d_first IS 'unused; twin of orders_d_last';
COMMENT ON INDEX orders_d_last IS 'unused';
CREATE INDEX orders_e_desc ON orders (e DESC);
CREATE INDEX orders_e_a ON orders (e, a);
COMMENT ON INDEX orders_e_desc IS 'unused; prefix of orders_e_a';
COMMENT ON INDEX orders_e_a IS 'unused';

-- Collations and operator classes.
CREATE TABLE texts (a text, b text, v varchar(20), w varchar(20));
CREATE INDEX texts_a ON texts (a);
CREATE INDEX texts_a_c ON texts (a COLLATE "C");
CREATE INDEX texts_a_c_2 ON texts (a COLLATE "C");
CREATE INDEX texts_a_pattern ON texts (a text_pattern_ops);
CREATE INDEX texts_a_pattern_b ON texts (a text_pattern_ops, b);
COMMENT ON INDEX texts_a IS 'unused';
COMMENT ON INDEX texts_a_c IS 'unused';
COMMENT ON INDEX texts_a_c_2 IS 'unused; duplicate of texts_a_c';
COMMENT ON INDEX texts_a_pattern IS 'unused; prefix of texts_a_pattern_b';
COMMENT ON INDEX texts_a_pattern_b IS 'unused';
CREATE INDEX texts_v ON texts (v);
CREATE INDEX texts_v_varchar ON texts (v varchar_ops);
COMMENT ON INDEX texts_v IS 'unused';
COMMENT ON INDEX texts_v_varchar IS 'unused; duplicate of texts_v';

-- Expressions.
CREATE TABLE forms (a text, b int, c varchar(9));
CREATE INDEX forms_lower ON forms (lower(a));
CREATE INDEX forms_lower_2 ON forms (  lower( a ) );
CREATE INDEX forms_upper ON forms (upper(a));
CREATE INDEX forms_upper_b ON forms (upper(a), b);
CREATE INDEX forms_sum ON forms ((b + 1), lower(a));
CREATE INDEX forms_sum_2 ON forms ((b + 2), lower(a));
CREATE INDEX forms_cast ON forms (lower(c));
CREATE INDEX forms_cast_2 ON forms (lower(c::text));
COMMENT ON INDEX forms_lower IS 'unused';
COMMENT ON INDEX forms_lower_2 IS 'unused; duplicate of forms_lower';
COMMENT ON INDEX forms_upper IS 'unused; prefix of forms_upper_b';
COMMENT ON INDEX forms_upper_b IS 'unused';
COMMENT ON INDEX forms_sum IS 'unused';
COMMENT ON INDEX forms_sum_2 IS 'unused';
COMMENT ON INDEX forms_cast IS 'unused';
COMMENT ON INDEX forms_cast_2 IS 'unused; duplicate of forms_cast';

-- Partial.
CREATE TABLE parts (a int, b int, s varchar(10));
CREATE INDEX parts_open ON parts (a) WHERE s = 'OPEN';
CREATE INDEX parts_open_2 ON parts (a) WHERE s::text = 'OPEN'::text;
CREATE INDEX parts_done ON parts (a) WHERE s = 'DONE';
CREATE INDEX parts_done_b ON parts (a, b) WHERE s = 'DONE';
CREATE INDEX parts_all ON parts (a);
COMMENT ON INDEX parts_open IS 'unused';
COMMENT ON INDEX parts_open_2 IS 'unused; duplicate of parts_open';
COMMENT ON INDEX parts_done IS 'unused; prefix of parts_done_b';
COMMENT ON INDEX parts_done_b IS 'unused';
COMMENT ON INDEX parts_all IS 'unused';
CREATE UNIQUE INDEX parts_one_open ON parts (b) WHERE s = 'OPEN';
CREATE INDEX parts_b ON parts (b);
COMMENT ON INDEX parts_one_open IS 'unique';
COMMENT ON INDEX parts_b IS 'unused';

-- INCLUDE.
CREATE TABLE cover (a int, b int, c int, d int, e int);
CREATE INDEX cover_a ON cover (a);
CREATE INDEX cover_a_with_b ON cover (a) INCLUDE (b);
CREATE INDEX cover_a_with_c ON cover (a) INCLUDE (c);
COMMENT ON INDEX cover_a IS 'unused; twin of cover_a_with_b';
COMMENT ON INDEX cover_a_with_b IS 'unused';
COMMENT ON INDEX cover_a_with_c IS 'unused';
CREATE INDEX cover_b_with_c_d ON cover (b) INCLUDE (c, d);
CREATE INDEX cover_b_with_d_c ON cover (b) INCLUDE (d, c);
COMMENT ON INDEX cover_b_with_c_d IS 'unused';
COMMENT ON INDEX cover_b_with_d_c IS 'unused; duplicate of cover_b_with_c_d';
CREATE INDEX cover_c_with_d ON cover (c) INCLUDE (d);
CREATE INDEX cover_c_d ON cover (c, d);
COMMENT ON INDEX cover_c_with_d IS 'unused; prefix of cover_c_d';
COMMENT ON INDEX cover_c_d IS 'unused';
CREATE INDEX cover_d_e ON cover (d, e);
CREATE INDEX cover_d_with_e_a ON cover (d) INCLUDE (e, a);
COMMENT ON INDEX cover_d_e IS 'unused';
COMMENT ON INDEX cover_d_with_e_a IS 'unused';
CREATE UNIQUE INDEX cover_e ON cover (e);
CREATE UNIQUE INDEX cover_e_with_a ON cover (e) INCLUDE (a);
CREATE INDEX cover_e_plain ON cover (e);
COMMENT ON INDEX cover_e IS 'unique';
COMMENT ON INDEX cover_e_with_a IS 'unique';
COMMENT ON INDEX cover_e_plain IS 'unused; twin of cover_e';

-- Other methods: no prefixes, no order.
CREATE TABLE methods (a int, b int, t text, tags int[], more int[], doc jsonb, r int4range, q int4range);
CREATE INDEX methods_hash ON methods USING hash (a);
CREATE INDEX methods_hash_2 ON methods USING hash (a);
CREATE INDEX methods_btree ON methods (a);
COMMENT ON INDEX methods_hash IS 'unused';
COMMENT ON INDEX methods_hash_2 IS 'unused; duplicate of methods_hash';
COMMENT ON INDEX methods_btree IS 'unused';
CREATE INDEX methods_gin ON methods USING gin (tags);
CREATE INDEX methods_gin_slow ON methods USING gin (tags) WITH (fastupdate = off);
CREATE INDEX methods_gin_both ON methods USING gin (tags, more);
COMMENT ON INDEX methods_gin IS 'unused';
COMMENT ON INDEX methods_gin_slow IS 'unused; duplicate of methods_gin';
COMMENT ON INDEX methods_gin_both IS 'unused';
CREATE INDEX methods_json ON methods USING gin (doc);
CREATE INDEX methods_json_path ON methods USING gin (doc jsonb_path_ops);
COMMENT ON INDEX methods_json IS 'unused';
COMMENT ON INDEX methods_json_path IS 'unused';
CREATE INDEX methods_brin ON methods USING brin (b);
CREATE INDEX methods_brin_2 ON methods USING brin (b) WITH (autosummarize = on);
CREATE INDEX methods_brin_fine ON methods USING brin (b) WITH (pages_per_range = 8);
CREATE INDEX methods_brin_both ON methods USING brin (b, a);
COMMENT ON INDEX methods_brin IS 'unused';
COMMENT ON INDEX methods_brin_2 IS 'unused; duplicate of methods_brin';
COMMENT ON INDEX methods_brin_fine IS 'unused';
COMMENT ON INDEX methods_brin_both IS 'unused';
CREATE INDEX methods_spgist ON methods USING spgist (t);
CREATE INDEX methods_spgist_2 ON methods USING spgist (t);
COMMENT ON INDEX methods_spgist IS 'unused';
COMMENT ON INDEX methods_spgist_2 IS 'unused; duplicate of methods_spgist';
ALTER TABLE methods ADD CONSTRAINT methods_overlap EXCLUDE USING gist (r WITH &&);
ALTER TABLE methods ADD CONSTRAINT methods_adjacent EXCLUDE USING gist (r WITH -|-);
CREATE INDEX methods_gist ON methods USING gist (r);
CREATE INDEX methods_gist_q ON methods USING gist (q);
CREATE INDEX methods_gist_q_r ON methods USING gist (q, r);
COMMENT ON INDEX methods_overlap IS 'exclusion';
COMMENT ON INDEX methods_adjacent IS 'exclusion';
COMMENT ON INDEX methods_gist IS 'unused; twin of methods_overlap';
COMMENT ON INDEX methods_gist_q IS 'unused';
COMMENT ON INDEX methods_gist_q_r IS 'unused';
CREATE TABLE signatures (v tsvector);
CREATE INDEX signatures_v ON signatures USING gist (v);
CREATE INDEX signatures_v_long ON signatures USING gist (v tsvector_ops (siglen = 500));
COMMENT ON INDEX signatures_v IS 'unused';
COMMENT ON INDEX signatures_v_long IS 'unused';

-- Replica identity.
CREATE TABLE replicated (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL);
CREATE UNIQUE INDEX replicated_a_identity ON replicated (a);
CREATE UNIQUE INDEX replicated_a ON replicated (a);
CREATE UNIQUE INDEX replicated_id ON replicated (id);
ALTER TABLE replicated REPLICA IDENTITY USING INDEX replicated_a_identity;
COMMENT ON INDEX replicated_pkey IS 'primary';
COMMENT ON INDEX replicated_a_identity IS 'replica identity';
COMMENT ON INDEX replicated_a IS 'unique; duplicate of replicated_a_identity';
COMMENT ON INDEX replicated_id IS 'unique; duplicate of replicated_pkey';

CREATE TABLE ident (id int NOT NULL) PARTITION BY LIST (id);
CREATE TABLE ident_1 PARTITION OF ident FOR VALUES IN (1);
CREATE UNIQUE INDEX ident_id ON ident (id);
CREATE UNIQUE INDEX ident_id_of_a_partition ON ident (id);
ALTER TABLE ident_1 REPLICA IDENTITY USING INDEX ident_1_id_idx1;
COMMENT ON INDEX ident_id IS 'unique';
COMMENT ON INDEX ident_id_of_a_partition IS 'replica identity';

-- Foreign keys.
CREATE TABLE target (a int, b int, c int NOT NULL, CONSTRAINT target_pkey PRIMARY KEY (a, b));
CREATE UNIQUE INDEX target_c_long_name ON target (c);
CREATE TABLE source (a int, b int, c1 int, c2 int, c3 int, c4 int, c5 int, c6 int,
  CONSTRAINT pair FOREIGN KEY (a, b) REFERENCES target,
  CONSTRAINT pair_turned FOREIGN KEY (c6, c5) REFERENCES target (b, a));
ALTER TABLE source ADD CONSTRAINT first_of_two FOREIGN KEY (c1) REFERENCES target (c),
  ADD CONSTRAINT not_null_only FOREIGN KEY (c2) REFERENCES target (c),
  ADD CONSTRAINT some_only FOREIGN KEY (c3) REFERENCES target (c),
  ADD CONSTRAINT hashed FOREIGN KEY (c4) REFERENCES target (c);
CREATE UNIQUE INDEX target_c ON target (c);
COMMENT ON INDEX target_pkey IS 'primary';
COMMENT ON INDEX target_c_long_name IS 'unique';
COMMENT ON INDEX target_c IS 'unique; duplicate of target_c_long_name';
CREATE INDEX source_b_a ON source (b, a);
CREATE INDEX source_b ON source (b);
CREATE INDEX source_c1_c2 ON source (c1, c2);
CREATE INDEX source_c2 ON source (c2) WHERE c2 IS NOT NULL;
CREATE INDEX source_c3 ON source (c3) WHERE c3 > 0;
CREATE INDEX source_c3_other ON source (c3) WHERE c2 IS NOT NULL;
CREATE INDEX source_c4 ON source USING hash (c4);
CREATE INDEX source_c5 ON source (c5);
COMMENT ON INDEX source_b_a IS 'foreign key';
COMMENT ON INDEX source_b IS 'unused; prefix of source_b_a';
COMMENT ON INDEX source_c1_c2 IS 'foreign key';
COMMENT ON INDEX source_c2 IS 'foreign key';
COMMENT ON INDEX source_c3 IS 'unused';
COMMENT ON INDEX source_c3_other IS 'unused';
COMMENT ON INDEX source_c4 IS 'foreign key';
COMMENT ON INDEX source_c5 IS 'unused';
COMMENT ON CONSTRAINT pair ON source IS 'indexed';
COMMENT ON CONSTRAINT pair_turned ON source IS 'unindexed';
COMMENT ON CONSTRAINT first_of_two ON source IS 'indexed';
COMMENT ON CONSTRAINT not_null_only ON source IS 'indexed';
COMMENT ON CONSTRAINT some_only ON source IS 'unindexed';
COMMENT ON CONSTRAINT hashed ON source IS 'indexed';

-- Partitions, two levels, the leaves with columns in another place.
CREATE TABLE trades (id int, at date, symbol text, price int) PARTITION BY RANGE (at);
CREATE TABLE trades_1 PARTITION OF trades FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE trades_2 PARTITION OF trades FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (symbol);
CREATE TABLE trades_2a (gone int, price int, symbol text, id int, at date);
ALTER TABLE trades_2a DROP COLUMN gone;
ALTER TABLE trades_2 ATTACH PARTITION trades_2a FOR VALUES IN ('A');
CREATE TABLE trades_2b PARTITION OF trades_2 DEFAULT;
ALTER TABLE trades ADD CONSTRAINT trades_pkey PRIMARY KEY (id, at, symbol);
COMMENT ON INDEX trades_pkey IS 'primary';
CREATE INDEX trades_at ON trades (at);
CREATE INDEX trades_at_symbol ON trades (at, symbol);
COMMENT ON INDEX trades_at IS 'unused; prefix of trades_at_symbol';
COMMENT ON INDEX trades_at_symbol IS 'unused';
CREATE INDEX trades_only ON ONLY trades (price);
COMMENT ON INDEX trades_only IS 'invalid; unattached';
CREATE INDEX trades_half ON ONLY trades (symbol);
CREATE INDEX trades_half_1 ON trades_1 (symbol);
ALTER INDEX trades_half ATTACH PARTITION trades_half_1;
COMMENT ON INDEX trades_half IS 'invalid; unattached';
CREATE INDEX trades_done ON ONLY trades (price, id);
CREATE INDEX trades_done_1 ON trades_1 (price, id);
CREATE INDEX trades_done_2 ON trades_2 (price, id);
ALTER INDEX trades_done ATTACH PARTITION trades_done_1;
ALTER INDEX trades_done ATTACH PARTITION trades_done_2;
CREATE INDEX trades_1_local ON trades_1 (id);
COMMENT ON INDEX trades_1_local IS 'unused; prefix of trades_1_pkey';
CREATE INDEX trades_2a_local ON trades_2a (at);
COMMENT ON INDEX trades_2a_local IS 'unused; prefix of trades_2a_at_symbol_idx';
CREATE INDEX trades_2b_local ON trades_2b (symbol);
COMMENT ON INDEX trades_2b_local IS 'unused; prefix of trades_2_mid_b';
CREATE INDEX trades_2_mid ON ONLY trades_2 (symbol, price);
CREATE INDEX trades_2_mid_a ON trades_2a (symbol, price);
CREATE INDEX trades_2_mid_b ON trades_2b (symbol, price);
ALTER INDEX trades_2_mid ATTACH PARTITION trades_2_mid_a;
ALTER INDEX trades_2_mid ATTACH PARTITION trades_2_mid_b;
COMMENT ON INDEX trades_2_mid IS 'unused';
ALTER TABLE trades ADD CONSTRAINT trades_price FOREIGN KEY (price) REFERENCES target (c);
ALTER TABLE trades_2b ADD CONSTRAINT trades_2b_id FOREIGN KEY (id) REFERENCES target (c);
COMMENT ON CONSTRAINT trades_price ON trades IS 'indexed';
COMMENT ON CONSTRAINT trades_2b_id ON trades_2b IS 'indexed';
COMMENT ON INDEX trades_done IS 'foreign key';
-- No index can be on a foreign table; nor does it need one.
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE TABLE far (a int) PARTITION BY LIST (a);
CREATE TABLE far_1 PARTITION OF far FOR VALUES IN (1);
CREATE FOREIGN TABLE far_2 PARTITION OF far FOR VALUES IN (2) SERVER nowhere;
CREATE INDEX far_a ON far (a);
COMMENT ON INDEX far_a IS 'unused';
CREATE TABLE bare (a int) PARTITION BY LIST (a);
CREATE INDEX bare_a ON bare (a);
COMMENT ON INDEX bare_a IS 'unused';

-- Other homes and names.
CREATE SCHEMA other;
CREATE TABLE other.plain (a int, b int);
CREATE INDEX plain_a ON other.plain (a);
COMMENT ON INDEX other.plain_a IS 'unused';
CREATE SCHEMA "s""c\h";
CREATE TABLE "s""c\h"."t'
x" ("Ä, b" int, "desc" text);
CREATE INDEX "i ""1""" ON "s""c\h"."t'
x" ("Ä, b");
CREATE INDEX "i ""2""" ON "s""c\h"."t'
x" ("Ä, b", lower("desc"));
COMMENT ON INDEX "s""c\h"."i ""1""" IS 'unused; prefix of i "2"';
COMMENT ON INDEX "s""c\h"."i ""2""" IS 'unused';
CREATE MATERIALIZED VIEW seen AS SELECT a, b FROM plain;
CREATE INDEX seen_a ON seen (a);
CREATE UNIQUE INDEX seen_a_b ON seen (a, b);
COMMENT ON INDEX seen_a IS 'unused; prefix of seen_a_b';
COMMENT ON INDEX seen_a_b IS 'unique';
CREATE UNLOGGED TABLE quick (a int);
CREATE INDEX quick_a ON quick (a);
COMMENT ON INDEX quick_a IS 'used';
INSERT INTO quick SELECT generate_series(1, 100);

-- since 15
CREATE TABLE nulls (a int, b int);
CREATE UNIQUE INDEX nulls_a ON nulls (a);
CREATE UNIQUE INDEX nulls_a_one ON nulls (a) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX nulls_a_one_2 ON nulls (a) NULLS NOT DISTINCT;
COMMENT ON INDEX nulls_a IS 'unique';
COMMENT ON INDEX nulls_a_one IS 'unique';
COMMENT ON INDEX nulls_a_one_2 IS 'unique; duplicate of nulls_a_one';

-- since 18
CREATE TABLE rooms (room int4range, period int4range,
  CONSTRAINT rooms_pkey PRIMARY KEY (room, period WITHOUT OVERLAPS));
CREATE INDEX rooms_period ON rooms USING gist (room, period);
COMMENT ON INDEX rooms_pkey IS 'primary';
COMMENT ON INDEX rooms_period IS 'unused; twin of rooms_pkey';
CREATE TABLE unenforced (c int, CONSTRAINT on_paper FOREIGN KEY (c) REFERENCES target (c) NOT ENFORCED);
COMMENT ON CONSTRAINT on_paper ON unenforced IS 'indexed';
