"""Result backends: where what tasks return is kept, and read again."""
