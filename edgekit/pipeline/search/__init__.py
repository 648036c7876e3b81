"""``optimize``: candidates are recipes. What can be varied and what is proposed (space), the recipe of a candidate
(candidate), its files, made once (steps), what they show on a device (evidence), Optuna's study of them (study), where
they are made (workers), the front and its last, interleaved run (front, final), the verb (run)."""
