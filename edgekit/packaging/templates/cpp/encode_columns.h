// Rows side by side, the newest last; columns: @@LISTED@@.
inline Values encode_@@NAME@@(const Values &rows) {
  Values values(@@COUNT@@);
  if (rows.size() % @@COLUMNS@@ != 0 ||
      !ek_columns(rows.data(), (int)(rows.size() / @@COLUMNS@@), &ek_rule_@@NAME@@, values.data()))
    throw std::invalid_argument("@@NAME@@ takes rows of @@COLUMNS@@ numbers, and more of them");
  return values;
}
