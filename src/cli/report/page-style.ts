// The style of report.html. Colours are the eight of Okabe and Ito, which stay apart for colour-blind readers.

export const PAGE_STYLE = `
:root { --paper: #fff; --ink: #1c1e21; --soft: #5a6068; --line: #d9dce1; --box: #f5f6f8; --warn: #8a4b00; --warn-box: #fff4e0;
  --good: #00694f; --bad: #b3261e;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #9f4f86; --c4: #946c00; --c5: #27789f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e8eaed; --soft: #a3a9b2; --line: #34383e; --box: #1f2226; --warn: #ffc46b; --warn-box: #33270f;
    --good: #2fd0a0; --bad: #ff8f85;
    --c0: #56b4e9; --c1: #ff8a3d; --c2: #2fd0a0; --c3: #e59ac6; --c4: #f0e442; --c5: #8ecae6; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p { max-width: 44rem; margin: .25rem 0 .75rem; }
.simulated { border: 1px solid var(--warn); background: var(--warn-box); color: var(--warn); padding: .6rem .8rem; border-radius: 6px; max-width: none; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem; margin: 1rem 0; }
dl div { background: var(--box); border-radius: 6px; padding: .6rem .8rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--c0); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; font-weight: normal; }
thead th { color: var(--soft); font-size: .85rem; }
.number { text-align: right; }
.good { color: var(--good); } .middling { color: var(--warn); } .bad { color: var(--bad); font-weight: 600; }
li { max-width: 58rem; margin: .3rem 0; }
figure { margin: 0; }
.chart { width: 100%; min-height: 16rem; }
figcaption, details { color: var(--soft); font-size: .9rem; }
summary { cursor: pointer; padding: .3rem 0; }
pre { background: var(--box); border-radius: 6px; padding: .8rem; overflow-x: auto; font-size: .85rem; color: var(--ink); }
.u-legend { color: var(--ink); }
.u-legend th, .u-legend td { white-space: normal; border: 0; }
@media print { details { display: block; } }
`;
