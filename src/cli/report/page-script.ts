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
    const level = (s) => s >= chart.names.length - chart.levels;
    const series = chart.names.map((label, s) => level(s) ? {
      label, stroke: css('--soft'), width: 1, dash: [2, 4], points: { show: false }, value: (_, value) => short(value),
    } : {
      label, stroke: css('--c' + chart.styles[s].colour), width: 2, dash: chart.styles[s].dashed ? [6, 4] : undefined, spanGaps: true,
      points: { show: few }, value: (_, value) => short(value),
    });
    const xs = chart.data[0];
    const x = chart.logX ? { time: false, distr: 3, range: () => [xs[0] / 1.25, xs.at(-1) * 1.25] } : { time: false };
    const ticks = chart.logX ? { splits: () => xs, filter: (_, at) => at,
      values: (_, at) => at.map((tick) => tick.toLocaleString('en-US')) } : {};
    return new uPlot({
      width: box.clientWidth, height: 260, scales: { x },
      series: [{ label: chart.xLabel, value: (_, value) => short(value) }, ...series],
      axes: [{ ...axis, ...ticks, label: chart.xLabel }, { ...axis, label: chart.yLabel || undefined, size: 64,
        values: (_, ticks) => ticks.map((tick) => Math.abs(tick) >= 1e4 || (tick !== 0 && Math.abs(tick) < 1e-3) ? tick.toExponential() : short(tick)) }],
    }, chart.data, box);
  });
}
draw();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
let width = innerWidth;
addEventListener('resize', () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
`;
