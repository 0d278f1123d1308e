INSERT INTO trades (symbol, price, quantity, buyer_user_id, seller_user_id, buyer_order_id, seller_order_id, is_buyer_maker)
VALUES ($1::text, $2::text::numeric, $3::text::numeric, $4::int8, $5::int8, $6::text::uuid, $7::text::uuid, $8::bool)
