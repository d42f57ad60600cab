"""Whether somebody may: RBAC, the Node authoriser, webhooks, and the reviews that ask them."""
