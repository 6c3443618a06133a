// The script of report.html: draws `charts` with uPlot, again on a change of width or colour scheme.
// Plain browser JavaScript in a string: it is copied into the page, and the page loads nothing.

export const PAGE_SCRIPT = `
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (value) => value == null ? '–' : Number(value.toPrecision(4)).toString();
let drawn = [];
function draw() {
  for (const plot of drawn) plot.destroy();
  drawn = charts.map((chart, i) => {
    const box = document.getElementById('chart-' + i);
    const axis = { stroke: css('--soft'), grid: { stroke: css('--line'), width: 1 }, ticks: { stroke: css('--line'), width: 1 } };
    const few = chart.data[0].length < 30;
    const series = chart.names.map((label, s) => ({
      label, stroke: css('--c' + (s % 6)), width: 2, dash: s < 6 ? undefined : [6, 4], spanGaps: true,
      points: { show: few }, value: (_, value) => short(value),
    }));
    return new uPlot({
      width: box.clientWidth, height: 260, scales: { x: { time: false } },
      series: [{ label: chart.xLabel, value: (_, value) => short(value) }, ...series],
      axes: [{ ...axis, label: chart.xLabel }, { ...axis, label: chart.yLabel || undefined, size: 64,
        values: (_, ticks) => ticks.map((tick) => Math.abs(tick) >= 1e4 || (tick !== 0 && Math.abs(tick) < 1e-3) ? tick.toExponential() : short(tick)) }],
    }, chart.data, box);
  });
}
draw();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
let width = innerWidth;
addEventListener('resize', () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
`;
