WITH like_this AS (
  SELECT c.oid, c.relname, n.nspname, c.relacl, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, c.relkind, c.relowner,
         i.inhparent, p.partattrs::int2[] AS key
    FROM pg_catalog.unnest($1::int8[]) u(id) JOIN pg_catalog.pg_class c ON c.oid = u.id
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = i.inhparent)
SELECT m.oid::int8 AS oid, 'grant' AS kind, g.rolname::text AS name, x.privilege_type::text AS def, NULL::text AS extra,
       x.is_grantable AS flag, x.grantee = 0 AS other
  FROM like_this m CROSS JOIN LATERAL pg_catalog.aclexplode(m.relacl) x LEFT JOIN pg_catalog.pg_roles g ON g.oid = x.grantee
UNION ALL
SELECT m.oid::int8, 'grant', g.rolname::text, x.privilege_type::text, a.attname::text, x.is_grantable, x.grantee = 0
  FROM like_this m JOIN pg_catalog.pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
       CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) x LEFT JOIN pg_catalog.pg_roles g ON g.oid = x.grantee
UNION ALL
SELECT m.oid::int8, 'closed', NULL, NULL, NULL, m.relacl IS NOT NULL, false FROM like_this m
UNION ALL
SELECT m.oid::int8, 'constraint', k.conname::text, pg_catalog.pg_get_constraintdef(k.oid),
       CASE WHEN EXISTS (SELECT FROM pg_catalog.unnest(k.conkey) y(nr) JOIN pg_catalog.pg_attribute a ON a.attrelid = m.oid AND a.attnum = y.nr
                           JOIN pg_catalog.pg_attribute b ON b.attrelid = m.inhparent AND b.attname = a.attname
                          WHERE b.attnum = ANY (m.key)) THEN 'key' END,
       k.contype = 'f' OR k.coninhcount > 0
         OR EXISTS (SELECT FROM pg_catalog.pg_inherits s JOIN pg_catalog.pg_constraint o ON o.conrelid = s.inhrelid
                     WHERE s.inhparent = m.inhparent AND s.inhrelid <> m.oid AND o.contype = 'c' AND o.conname = k.conname
                       AND pg_catalog.pg_get_constraintdef(o.oid) = pg_catalog.pg_get_constraintdef(k.oid)), k.contype = 'f'
  FROM like_this m JOIN pg_catalog.pg_constraint k ON k.conrelid = m.oid
 WHERE k.contype = 'c' AND k.conname NOT LIKE 'pgrunway\_bound\_%' OR (k.contype = 'f' AND k.conparentid = 0)
UNION ALL
SELECT m.oid::int8, 'trigger', t.tgname::text, pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled::text, t.tgconstraint <> 0, false
  FROM like_this m JOIN pg_catalog.pg_trigger t ON t.tgrelid = m.oid WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT m.oid::int8, 'policy', p.polname::text,
       pg_catalog.concat_ws(' ', CASE WHEN p.polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END,
         'FOR ' || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
         'TO ' || (SELECT pg_catalog.string_agg(CASE WHEN r.id = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.id)) END, ', ')
                     FROM pg_catalog.unnest(p.polroles) r(id)),
         'USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
         'WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')'), NULL, false, false
  FROM like_this m JOIN pg_catalog.pg_policy p ON p.polrelid = m.oid
UNION ALL
SELECT m.oid::int8, 'security', NULL, NULL, NULL, m.relrowsecurity, m.relforcerowsecurity FROM like_this m
UNION ALL
SELECT m.oid::int8, 'column', a.attname::text, a.attstattarget::text, pg_catalog.array_to_string(a.attoptions, ', '), false, false
  FROM like_this m JOIN pg_catalog.pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE a.attstattarget >= 0 OR a.attoptions IS NOT NULL
UNION ALL
SELECT m.oid::int8, 'replica', m.relreplident::text,
       (SELECT pg_catalog.concat_ws(' ', x.indisprimary, ARRAY(SELECT a.attname FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY k(nr, at)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.nr ORDER BY k.at)::text)
          FROM pg_catalog.pg_index x WHERE x.indrelid = m.oid AND x.indisreplident), NULL, false, false
  FROM like_this m WHERE m.relreplident IN ('f', 'n', 'i')
UNION ALL
SELECT m.oid::int8, 'label', l.provider, l.label, NULL, false, false
  FROM like_this m JOIN pg_catalog.pg_seclabel l ON l.objoid = m.oid AND l.classoid = 'pg_catalog.pg_class'::regclass AND l.objsubid = 0
UNION ALL
SELECT m.oid::int8, 'comment', NULL, pg_catalog.obj_description(m.oid, 'pg_class'), NULL,
       EXISTS (SELECT FROM pg_catalog.pg_inherits s WHERE s.inhparent = m.inhparent AND s.inhrelid <> m.oid
                  AND pg_catalog.obj_description(s.inhrelid, 'pg_class') = pg_catalog.obj_description(m.oid, 'pg_class')), false
  FROM like_this m WHERE pg_catalog.obj_description(m.oid, 'pg_class') IS NOT NULL
UNION ALL
SELECT m.oid::int8, 'rule', r.rulename::text, NULL, NULL, false, false
  FROM like_this m JOIN pg_catalog.pg_rewrite r ON r.ev_class = m.oid
UNION ALL
SELECT m.oid::int8, 'index', x.relname::text, pg_catalog.quote_ident(s.spcname), ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid ORDER BY a.attnum)::text, i.indisclustered, false
  FROM like_this m JOIN pg_catalog.pg_index i ON i.indrelid = m.oid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_tablespace s ON s.oid = x.reltablespace WHERE x.relkind = 'i'
UNION ALL
SELECT m.oid::int8, 'publication', p.pubname::text, {filter}, {columns}, false, p.pubowner <> m.relowner
  FROM like_this m JOIN pg_catalog.pg_publication_rel r ON r.prrelid = m.oid JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
UNION ALL
SELECT m.oid::int8, 'referred', f.conname::text, pg_catalog.format('%s', f.conrelid::regclass), NULL, false, false
  FROM like_this m JOIN pg_catalog.pg_constraint f ON f.confrelid = m.oid AND f.contype = 'f' AND f.conparentid = 0
 ORDER BY 1, 2, 3
