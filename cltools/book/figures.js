// Draws each figure of the page from the numbers that stand before its place.
for (const place of document.querySelectorAll(".plotly")) {
  const { data, layout } = JSON.parse(place.previousElementSibling.textContent);
  Plotly.newPlot(place, data, layout, { responsive: true, displaylogo: false });
}
