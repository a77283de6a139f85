"""From predictions to figures, results, and the record that a report needs."""
