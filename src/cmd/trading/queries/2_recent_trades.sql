SELECT /* 2 recent trades by symbol */
  * FROM trades
WHERE symbol = $1
ORDER BY executed_at DESC
LIMIT 100
