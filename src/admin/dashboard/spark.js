// A line of the last minutes, a few pixels high: the newest on the right, from zero up.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [300, 24];
/** Values across, as long as there are no more. */
const ACROSS = 60;

/** A line that has nothing on it yet. It says nothing that the number beside it does not. */
export function spark(tone = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", `spark ${tone}`);
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
  }
  return svg;
}

/** Draws the values; `most` is at the top, or the highest of them where that is higher. */
export function draw(svg, values, most = 0) {
  const top = Math.max(most, ...values.filter((value) => value != null)) || 1;
  const step = WIDTH / Math.max(ACROSS - 1, values.length - 1);
  const first = WIDTH - (values.length - 1) * step;
  let [line, area, run] = ["", "", []];
  const end = () => {
    if (run.length) {
      const points = run.map(([x, y]) => `${x} ${y}`).join("L");
      line += `M${points}`;
      area += `M${run[0][0]} ${HEIGHT}L${points}L${run.at(-1)[0]} ${HEIGHT}Z`;
    }
    run = [];
  };
  values.forEach((value, index) => {
    if (value == null) return end();
    const y = HEIGHT - 1 - (value / top) * (HEIGHT - 3);
    run.push([(first + index * step).toFixed(1), y.toFixed(1)]);
  });
  end();
  svg.firstChild.setAttribute("d", area);
  svg.lastChild.setAttribute("d", line);
}
