"use strict";
(() => {
  const rows = [...document.querySelectorAll("#questions tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const filters = document.getElementById("filters");
  const words = document.getElementById("words");
  const slice = document.getElementById("slice");
  const differ = document.getElementById("differ");
  const wanted = [...filters.querySelectorAll("select[data-run]")];
  const filter = () => {
    let shown = 0;
    rows.forEach((row, index) => {
      const found = row.dataset.outcomes.split(" ");
      row.hidden = !(
        wanted.every((select) => !select.value || found[select.dataset.run] === select.value) &&
        (!slice.value || row.dataset.slices.split(" ").includes(slice.value)) &&
        (!differ.checked || new Set(found).size > 1) &&
        texts[index].includes(words.value.trim().toLowerCase())
      );
      shown += !row.hidden;
    });
    document.getElementById("shown").textContent = `${shown} of ${rows.length} questions`;
  };
  filters.hidden = false;
  filters.addEventListener("input", filter);
  filter(); // a browser may keep what was chosen before
})();
