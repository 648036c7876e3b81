"use strict";
/* Draws the plots of the page, and lets their filters choose rows of the plot and of its table alike. */
(() => {
  const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: "custom" } };

  const chosen = (form, row) => {
    for (const box of form.querySelectorAll("input[data-field]"))
      if (!box.checked && String(row[box.dataset.field]) === box.value) return false;
    for (const limit of form.querySelectorAll("input[data-most]"))
      if (limit.value !== "" && !(row[limit.dataset.most] <= Number(limit.value))) return false;
    return true;
  };

  const along = (figure, spec, axes) => {
    for (const select of figure.querySelectorAll("select[data-axis]")) {
      const channel = spec.encoding[select.dataset.axis], axis = axes[select.value];
      channel.field = axis.field;
      channel.title = axis.title;
      delete channel.scale.zero;
      Object.assign(channel.scale, axis.scale === "log" ? { type: "log" } : { type: "linear", zero: false });
    }
  };

  const draw = async (figure) => {
    const { spec, axes } = JSON.parse(figure.querySelector("script").textContent);
    const form = figure.querySelector("form"), rows = spec.data.values;
    const lines = figure.querySelectorAll("tbody tr");
    const place = figure.querySelector(".plot");
    let drawn = null;
    const once = async () => {
      if (form) {
        const kept = rows.map((row) => chosen(form, row));
        spec.data.values = rows.filter((_, place) => kept[place]);
        lines.forEach((line, place) => { line.hidden = !kept[place]; });
        form.querySelector("output").textContent = `${spec.data.values.length} of ${rows.length} rows are shown`;
        along(figure, spec, axes);
      }
      if (drawn) drawn.finalize();
      drawn = null;
      if (spec.data.values.length) drawn = await vegaEmbed(place, spec, options);
      else place.textContent = "No rows to draw.";
    };
    let last = Promise.resolve();
    const show = () => (last = last.then(once)); // one after the other, however fast somebody types
    if (form) {
      form.addEventListener("input", show);
      form.addEventListener("submit", (event) => event.preventDefault());
    }
    await show();
  };

  (async () => {
    for (const figure of document.querySelectorAll("figure")) {
      try {
        await draw(figure);
      } catch (error) {
        figure.querySelector(".plot").textContent = "This plot cannot be drawn; its data stand in the table.";
        console.error(error);
      }
    }
    performance.mark("drawn");
    document.documentElement.dataset.drawn = "yes";
  })();
})();
