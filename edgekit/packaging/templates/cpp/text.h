/* ---------------------------------------------------------------- texts */

struct ek_text_rule {
  int length, beginning;
  bool lower, english; /* english: contractions and marks are tokens, else only words are */
  const char *vocabulary; /* words of UTF-8 with spaces between; the first is number 2 */
};

struct ek_range {
  uint32_t first, last;
};

/* Letters, and other numerals, of Unicode @@UNICODE@@; capitals: a run of them, and what is added for the small letter. */
static const ek_range ek_letters[] = {@@LETTERS@@};
static const ek_range ek_numerals[] = {@@NUMERALS@@};
struct ek_case {
  uint32_t first, last, step;
  int32_t shift;
};
static const ek_case ek_capitals[] = {@@CAPITALS@@};

template <size_t N>
static bool ek_in(const ek_range (&ranges)[N], uint32_t c) {
  const ek_range *end = ranges + N;
  const ek_range *at = std::lower_bound(ranges, end, c, [](const ek_range &r, uint32_t v) { return r.last < v; });
  return at != end && at->first <= c;
}

static bool ek_letter(uint32_t c) { return ek_in(ek_letters, c); }
static bool ek_alphanumeric(uint32_t c) { return ek_letter(c) || ek_in(ek_numerals, c); }
static bool ek_word(uint32_t c) { return c == '_' || ek_alphanumeric(c); }

static uint32_t ek_small(uint32_t c) {
  for (const ek_case &one : ek_capitals)
    if (c >= one.first && c <= one.last && (c - one.first) % one.step == 0) return c + one.shift;
  return c;
}

static std::u32string ek_decoded(const std::string &utf8) {
  std::u32string text;
  for (size_t k = 0; k < utf8.size();) {
    const uint8_t lead = (uint8_t)utf8[k++];
    int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    uint32_t c = more == 3 ? lead & 7 : more == 2 ? lead & 15 : more == 1 ? lead & 31 : lead;
    for (; more > 0 && k < utf8.size(); more--) c = c << 6 | ((uint8_t)utf8[k++] & 63);
    text.push_back(c);
  }
  return text;
}

static bool ek_not(const std::u32string &t, size_t at) { /* n't at the end of a word */
  return t.compare(at, 3, U"n't") == 0 && (at + 3 >= t.size() || !ek_word(t[at + 3]));
}

/* Length of the token that begins at `at`; 0: none does. */
static size_t ek_token(const std::u32string &t, size_t at, bool english) {
  size_t end = at;
  if (!english) {
    while (end < t.size() && ek_word(t[end])) end++;
    return end - at;
  }
  if (ek_not(t, at)) return 3;
  while (end < t.size() && ek_word(t[end])) {
    end++;
    if (ek_not(t, end)) return end - at;
  }
  if (end > at) return end - at;
  if (t[at] == '\'')
    for (const char32_t *tail : {U"s", U"re", U"ve", U"ll", U"m", U"d"}) {
      const size_t length = std::u32string(tail).size();
      const size_t after = at + 1 + length;
      if (t.compare(at + 1, length, tail) == 0 && (after >= t.size() || !ek_word(t[after]))) return 1 + length;
    }
  return std::u32string(U".,;:!?").find(t[at]) != std::u32string::npos ? 1 : 0;
}

/* Words as numbers: 0 padding, 1 unknown. */
class ek_words {
 public:
  explicit ek_words(const ek_text_rule &rule) : rule_(rule) {
    std::istringstream words(rule.vocabulary);
    for (std::string word; words >> word;) {
      std::u32string text = ek_decoded(word);
      numbers_.emplace(text, (int)known_.size() + 2);
      known_.push_back(std::move(text));
    }
  }

  std::vector<int32_t> encode(const std::string &utf8) const {
    std::u32string text = ek_decoded(utf8);
    for (char32_t &c : text) c = c == 0x2019 ? '\'' : rule_.lower ? ek_small(c) : c;
    std::vector<int32_t> row(rule_.length, 0);
    int found = 0;
    for (size_t at = 0; at < text.size() && found < rule_.length;) {
      const size_t length = ek_token(text, at, rule_.english);
      if (length == 0) {
        at++;
        continue;
      }
      const std::u32string token = text.substr(at, length);
      at += length;
      const auto known = numbers_.find(token);
      if (known != numbers_.end()) row[found++] = known->second;
      else if (std::any_of(token.begin(), token.end(), ek_alphanumeric)) row[found++] = alike(token);
    }
    if (found == 0) throw std::invalid_argument("the text holds no word");
    return row;
  }

 private:
  static bool alphabetic(const std::u32string &word) { return std::all_of(word.begin(), word.end(), ek_letter); }

  static size_t shared(const std::u32string &a, const std::u32string &b) {
    size_t k = 0;
    while (k < a.size() && k < b.size() && a[k] == b[k]) k++;
    return k;
  }

  /* The first (most frequent) known word with the longest beginning in common, and 3 fifths of its letters in it. */
  int alike(const std::u32string &word) const {
    if (rule_.beginning < 1 || !alphabetic(word)) return 1;
    size_t most = 0;
    for (const std::u32string &other : known_)
      if (alphabetic(other)) most = std::max(most, shared(word, other));
    if ((double)most < std::max((double)rule_.beginning, 0.6 * (double)word.size())) return 1;
    for (size_t k = 0; k < known_.size(); k++)
      if (alphabetic(known_[k]) && shared(word, known_[k]) >= most && std::ceil(0.6 * (double)known_[k].size()) <= (double)most)
        return (int)k + 2;
    return 1;
  }

  ek_text_rule rule_;
  std::vector<std::u32string> known_;
  std::map<std::u32string, int> numbers_;
};
