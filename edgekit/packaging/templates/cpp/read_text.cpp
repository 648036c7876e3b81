Values read(const std::string &text) { return encode_@@FIRST@@(text); }
