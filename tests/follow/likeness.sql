SELECT s.fact FROM (SELECT $1::text::regclass::oid AS id) t JOIN pg_class c ON c.oid = t.id CROSS JOIN LATERAL (
  SELECT concat_ws(' ', 'table', c.relkind, c.relpersistence, pg_get_userbyid(c.relowner), c.reloptions::text, c.relreplident, c.relrowsecurity,
                   c.relforcerowsecurity, c.reltablespace, (SELECT amname FROM pg_am WHERE oid = c.relam),
                   (SELECT x.reloptions::text FROM pg_class x WHERE x.oid = c.reltoastrelid), obj_description(c.oid, 'pg_class')) AS fact
  UNION ALL SELECT concat_ws(' ', 'grant', coalesce(pg_get_userbyid(nullif(x.grantee, 0))::text, 'public'), x.privilege_type, x.is_grantable)
    FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
  UNION ALL SELECT concat_ws(' ', 'grant', a.attname, coalesce(pg_get_userbyid(nullif(x.grantee, 0))::text, 'public'), x.privilege_type, x.is_grantable)
    FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = c.oid
  UNION ALL SELECT concat_ws(' ', 'policy', p.polname, p.polcmd, p.polroles::regrole[]::text, p.polpermissive,
                             replace(pg_get_expr(p.polqual, c.oid), quote_ident(c.relname), 'THIS'), pg_get_expr(p.polwithcheck, c.oid))
    FROM pg_policy p WHERE p.polrelid = c.oid
  UNION ALL SELECT concat_ws(' ', 'trigger', g.tgname, g.tgtype, g.tgfoid::regproc, g.tgenabled, g.tgparentid <> 0, g.tgattr, g.tgdeferrable)
    FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
  UNION ALL SELECT concat_ws(' ', 'internal trigger', g.tgfoid::regproc, g.tgenabled, count(*))
    FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgisinternal GROUP BY g.tgfoid, g.tgenabled
  UNION ALL SELECT concat_ws(' ', 'index', i.indisunique, i.indisprimary, i.indisvalid, i.indisreplident, i.indkey, pg_get_expr(i.indpred, c.oid),
                             EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid))
    FROM pg_index i WHERE i.indrelid = c.oid
  UNION ALL SELECT concat_ws(' ', 'constraint', k.contype, CASE WHEN k.contype IN ('c', 'f') THEN k.conname END, pg_get_constraintdef(k.oid), k.convalidated, k.coninhcount)
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype NOT IN ('n', 't')
  UNION ALL SELECT concat_ws(' ', 'column', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
                             nullif(a.attstattarget, -1), a.attoptions::text, pg_get_expr(d.adbin, c.oid))
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL SELECT concat_ws(' ', 'statistics', x.stxkeys) FROM pg_statistic_ext x WHERE x.stxrelid = c.oid
  UNION ALL SELECT concat_ws(' ', 'published', p.pubname) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = c.oid
) s ORDER BY 1
