"""The only floor that knows PostgreSQL: statements, and the runners that execute them."""
