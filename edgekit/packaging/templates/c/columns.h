/* ---------------------------------------------------------------- columns of numbers */

typedef struct {
  int rows, columns;            /* of the tensor; rows is 1 for a table */
  const float *factor, *offset; /* of each column */
} ek_columns_rule;

/* `rows` rows or more, the newest last, columns in the order of the rule -> real values. 0: too few rows. */
static int ek_columns(const float *values, int rows, const ek_columns_rule *rule, float *out) {
  if (rows < rule->rows) return 0;
  values += (size_t)(rows - rule->rows) * rule->columns;
  for (int k = 0; k < rule->rows * rule->columns; k++)
    out[k] = values[k] * rule->factor[k % rule->columns] + rule->offset[k % rule->columns];
  return 1;
}
